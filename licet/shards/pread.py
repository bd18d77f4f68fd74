"""Records of a flat file, read by position and checked. Knows offsets and checksums, not what the bytes mean.

`FlatReader` is the `licet.shards.ShardReader` of every format whose shard is such a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from licet.errors import ShardDamagedError
from licet.records import Sample
from licet.shards.index import ShardIndex, check_record, record_name


class RecordFile:
    """A file whose records lie where the index says. `pread` has no file position, so a forked child may read on."""

    def __init__(self, path: str, index: ShardIndex) -> None:
        self._path, self._index = path, index
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ShardDamagedError(path, "whole file", error.strerror or str(error)) from error
        self._n_bytes = os.fstat(self._handle).st_size

    def read(self, position: int) -> bytes:
        """The bytes of a record. Raises `ShardDamagedError` when they are not those that were written, IndexError."""
        if self._handle < 0:
            raise RuntimeError(f"the reader of {self._path} is closed")
        offset, length, _ = self._index.place(position)
        if offset + length > self._n_bytes:  # before any allocation: a damaged index may ask for exabytes
            what = f"it ends at byte {offset + length} of a file of {self._n_bytes}"
            raise ShardDamagedError(self._path, record_name(self._index, position), what)
        try:
            data = os.pread(self._handle, length, offset)
        except OSError as error:
            what = error.strerror or str(error)
            raise ShardDamagedError(self._path, record_name(self._index, position), what) from error
        check_record(self._path, position, self._index, data)
        return data

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class FlatReader:
    """Samples of a flat file.

    `sample_of(path, record)` reads one; it raises ValueError, TypeError, KeyError or IndexError for what is none.
    """

    def __init__(self, path: str, index: ShardIndex, sample_of: Callable[[str, bytes], Sample]) -> None:
        self._path, self._index, self._sample_of = path, index, sample_of
        self._file = RecordFile(path, index)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: int) -> Sample:
        record = self._file.read(position)
        try:
            return self._sample_of(self._path, record)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ShardDamagedError(self._path, record_name(self._index, position), str(error)) from error

    def close(self) -> None:
        self._file.close()
