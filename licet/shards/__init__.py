"""Shards: files that hold samples. One file per format, each writer beside its reader.

    with open_writer("tfrecord", path) as writer:      add samples, then close: the shard and its index are on disk
        writer.add(sample)
    reader = open_reader("tfrecord", path)             random access; every record is checked as it is read
    reader[3]

Writers are handed a path that nobody else uses; nothing they write is trusted before the catalog lists it.
"""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any, Literal, Protocol, get_args

from licet.errors import MissingExtraError, UsageError
from licet.records import Sample
from licet.shards.index import ShardIndex

ShardFormat = Literal["tfrecord", "lmdb", "webdataset", "parquet"]
FORMATS: tuple[ShardFormat, ...] = get_args(ShardFormat)
EXTENSIONS: dict[ShardFormat, str] = {
    "tfrecord": ".tfrecord",
    "lmdb": ".lmdb",
    "webdataset": ".tar",
    "parquet": ".parquet",
}


class ShardWriter(Protocol):
    """Writes samples in the order in which they are added."""

    def add(self, sample: Sample) -> None:
        """Append one sample."""

    def close(self) -> ShardIndex:
        """Flush and fsync the shard, write its index beside it (`index_path(path)`), and return the index."""

    def __enter__(self) -> ShardWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close on success; on an error release the files and leave the partial shard, which nobody lists."""


class ShardReader(Protocol):
    """Random access to a shard. Safe to open anew in each process; never share one across a fork."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Sample:
        """The sample at a position from 0, in the order written. Raises `ShardDamagedError` when its checksum fails."""

    def close(self) -> None: ...


def open_writer(format: ShardFormat, path: str) -> ShardWriter:
    """A writer for a new shard at a local path."""
    writer: ShardWriter = _module(format).Writer(path)
    return writer


def open_reader(format: ShardFormat, path: str, index: ShardIndex | None = None) -> ShardReader:
    """A reader of a shard at a local path; its index is read from beside it unless it is given.

    Raises `ShardDamagedError` when the shard or its index cannot be opened as what they should be.
    """
    reader: ShardReader = _module(format).Reader(path, index)
    return reader


def _module(format: ShardFormat) -> Any:
    """The format's module, imported when it is first used: each brings a library of its own."""
    if format not in FORMATS:
        raise UsageError(f"shard format {format!r} is unknown: choose from {', '.join(FORMATS)}.")
    try:
        return importlib.import_module(f"licet.shards.{format}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or format, "lmdb" if format == "lmdb" else "all") from error
