"""What every writer does beside writing: refuse what no format may hold, keep the index, be durable, fail cleanly.

A format's own writer knows bytes and nothing else (`FormatWriter`); this file knows no format.
"""

from __future__ import annotations

import hashlib
import os
import re
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, get_args

from licet.errors import UsageError
from licet.records import PayloadFormat, Sample
from licet.shards.index import IndexBuilder, ShardIndex, encode, fsync_folder, index_path

KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""What a whole key looks like: a file name on every system, and no path."""

PAYLOAD_FORMATS = get_args(PayloadFormat)


class Place(NamedTuple):
    """Where a record went, as the index keeps it."""

    offset: int
    """Bytes from the shard's start, or the format's own record number."""
    length: int
    """Bytes that the checksum covers."""
    crc32c: int


class FormatWriter(Protocol):
    """The part of a writer that differs between formats."""

    def append(self, sample: Sample, encoded: bytes) -> Place:
        """Write one record; `encoded` is `index.encode(sample)`, which is computed once."""

    def finish(self) -> None:
        """Write what is still in memory and whatever ends the file, fsync it and close it."""

    def abandon(self) -> None:
        """Close what is open. The partial file stays where it is: nobody lists it."""


class ShardWriter:
    """Writes samples in the order in which they are added. As a context it closes on success and abandons on an error.

    A key is 1 to 90 letters, digits, `_` or `-` and stands once in a shard: every format can hold that.
    """

    def __init__(self, path: str, writer: FormatWriter) -> None:
        self._path, self._writer = path, writer
        self._builder = IndexBuilder()
        self._keys: set[str] = set()
        self._abandoned = False
        self._index: ShardIndex | None = None

    def add(self, sample: Sample, encoded: bytes | None = None) -> None:
        """Append one sample; `encoded` is `index.encode(sample)`, for who has it.

        Raises `UsageError` for a sample that no shard may hold (the shard stays usable), OSError when the disk is full
        or fails (the shard is abandoned).
        """
        self._require_open()
        self._check(sample)
        encoded = encode(sample) if encoded is None else encoded
        try:
            place = self._writer.append(sample, encoded)
        except BaseException:
            self.abandon()
            raise
        self._keys.add(sample.key)
        self._builder.add(sample, *place, hashlib.sha256(encoded).digest())

    def close(self) -> ShardIndex:
        """Make the shard durable, then write its index beside it (`index_path(path)`), and return the index."""
        if self._index is not None:
            return self._index
        self._require_open()
        folder = os.path.dirname(os.path.abspath(self._path))
        try:
            self._writer.finish()
            fsync_folder(folder)
            index = self._builder.build()
            index.write(index_path(self._path))
            fsync_folder(folder)
        except BaseException:
            self.abandon()
            raise
        self._index = index
        return index

    def abandon(self) -> None:
        """Release the files. The partial shard has no index, and nobody lists it."""
        if self._index is None and not self._abandoned:
            self._abandoned = True
            self._writer.abandon()

    def _require_open(self) -> None:
        if self._abandoned or self._index is not None:
            raise ValueError(f"the writer of {self._path} is closed")

    def _check(self, sample: Sample) -> None:
        if not KEY.fullmatch(sample.key):
            raise UsageError(f"key {sample.key!r} cannot stand in a shard: use 1 to 90 letters, digits, '_' or '-'.")
        if sample.key in self._keys:
            raise UsageError(f"key {sample.key} was added twice to {self._path}: keys are unique.")
        if sample.payload_format not in PAYLOAD_FORMATS:
            raise UsageError(
                f"sample {sample.key} has payload format {sample.payload_format!r}: "
                f"expected one of {', '.join(PAYLOAD_FORMATS)}."
            )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def create(path: str) -> BinaryIO:
    """A new file. Raises FileExistsError rather than touch what another attempt wrote."""
    return open(path, "xb")


def close_durably(file: BinaryIO) -> None:
    """Flush, fsync and close a file."""
    with file:
        file.flush()
        os.fsync(file.fileno())
