"""Shards: files that hold samples. One file per format, each writer beside its reader.

    with open_writer("tfrecord", path) as writer:      add samples, then close: the shard and its index are on disk
        writer.add(sample)
    reader = open_reader("tfrecord", path)             random access; every record is checked as it is read
    reader[3]

Writers are handed a path that nobody else uses, and refuse one that exists; nothing they write is trusted before the
catalog lists it. A format's module has `Writer` (a `FormatWriter`), `Reader` (a `ShardReader`) and
`RECORDS_COVER_STRUCTURE`: whether record checksums find every damage that could mislead or crash its reader.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from licet.errors import MissingExtraError, ShardDamagedError, UsageError
from licet.records import Sample
from licet.shards.index import ShardIndex, file_sha256, index_path
from licet.shards.shard import ShardWriter

if TYPE_CHECKING:
    from licet.shards.files import Member

ShardFormat = Literal["tfrecord", "lmdb", "webdataset", "parquet", "files"]
FORMATS: tuple[ShardFormat, ...] = get_args(ShardFormat)
EXTENSIONS: dict[ShardFormat, str] = {
    "tfrecord": ".tfrecord",
    "lmdb": ".lmdb",
    "webdataset": ".tar",
    "parquet": ".parquet",
    "files": ".files",
}

__all__ = [
    "EXTENSIONS", "FORMATS", "ShardFormat", "ShardReader", "ShardWriter", "members", "open_reader", "open_writer",
    "verify_shard",
]  # fmt: skip


class ShardReader(Protocol):
    """Random access to a shard, by one thread at a time.

    A forked child may read on: no file position and no LMDB environment is shared with it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Sample:
        """The sample at a position from 0, in the order written.

        Raises `ShardDamagedError` when its checksum fails, IndexError when there is no such position.
        """

    def close(self) -> None: ...


def open_writer(format: ShardFormat, path: str) -> ShardWriter:
    """A writer for a new shard at a local path. Raises FileExistsError when there is a file already."""
    return ShardWriter(path, _module(format).Writer(path))


def open_reader(
    format: ShardFormat, path: str, index: ShardIndex | None = None, expected_sha256: str | None = None
) -> ShardReader:
    """A reader of a shard at a local path; its index is read from beside it unless it is given.

    `expected_sha256` is the shard file's hash, as the manifest gives it. It is compared where checksums of records
    leave the file's structure uncovered (LMDB, whose library maps the file and trusts it): give it for any file that
    may be damaged. Raises `ShardDamagedError` when the shard or its index cannot be opened as what they should be.
    """
    module = _module(format)
    if expected_sha256 is not None and not module.RECORDS_COVER_STRUCTURE:
        _check_whole_file(path, expected_sha256)
    reader: ShardReader = module.Reader(path, ShardIndex.open(index_path(path)) if index is None else index)
    return reader


def members(format: ShardFormat, path: str) -> list[Member]:
    """The files that belong to a shard at a local path beside its own file: those of plain files, none otherwise.

    The shard's own file holds their hashes. Raises `ShardDamagedError` when it does not list files.
    """
    return list(_module(format).members(path)) if format == "files" else []


def verify_shard(format: ShardFormat, path: str, sha256: str) -> None:
    """Read all of a shard at a local path. Raises `ShardDamagedError` unless it is what its hash says."""
    _check_whole_file(path, sha256)
    for member in members(format, path):
        _check_whole_file(os.path.join(os.path.dirname(path), member.name), member.sha256)


def _check_whole_file(path: str, expected_sha256: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ShardDamagedError(path, "whole file", error.strerror or str(error)) from error
    if found != expected_sha256:
        raise ShardDamagedError(path, "whole file", f"its SHA-256 is {found}, not {expected_sha256}")


def _module(format: ShardFormat) -> Any:
    """The format's module, imported when it is first used: each brings a library of its own."""
    if format not in FORMATS:
        raise UsageError(f"shard format {format!r} is unknown: choose from {', '.join(FORMATS)}.")
    try:
        return importlib.import_module(f"licet.shards.{format}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or format, "lmdb" if format == "lmdb" else "all") from error
