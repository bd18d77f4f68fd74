"""LMDB: one file (`subdir=False`), one key per sample.

    key = record number (uint64, big-endian)   value = canonical encoding: MessagePack map of every field of `Sample`
    key = b"licet"                             value = MessagePack map: version, rows, fields (in order)

The index's offset is the record number; length and checksum are the value's. Pages between the values are covered by
no record's checksum, and LMDB maps the file and trusts it: give `open_reader` the file's SHA-256. The same samples give
the same bytes on machines of one page size.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from typing import ClassVar

import lmdb
import msgpack

from licet.errors import ShardDamagedError
from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import ShardIndex, check_record, crc32c, decode, record_name
from licet.shards.shard import Place, create

RECORDS_COVER_STRUCTURE = False

META_KEY = b"licet"
VERSION = 1

_BYTES_PER_TRANSACTION = 32 << 20
_N_SPARE_PAGES = 256
"""Branch pages, copies on write and the list of free pages that one transaction may need beside its values."""


class Writer:
    """See `licet.shards.shard.FormatWriter`. Values wait in memory, 32 MiB at most, and are put in one transaction."""

    def __init__(self, path: str) -> None:
        create(path).close()
        self._path = path
        with _as_os_error(path):
            self._env = lmdb.open(path, subdir=False, lock=False, sync=False, metasync=False, map_size=1 << 20)
        self._page = self._env.stat()["psize"]
        self._pending: list[tuple[bytes, bytes]] = []
        self._n_pending_bytes = 0
        self._n_rows = 0

    def append(self, sample: Sample, encoded: bytes) -> Place:
        place = Place(self._n_rows, len(encoded), crc32c(encoded))
        self._put(_key(self._n_rows), encoded)
        self._n_rows += 1
        return place

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending.append((key, value))
        self._n_pending_bytes += len(value)
        if self._n_pending_bytes >= _BYTES_PER_TRANSACTION:
            self._flush()

    def _flush(self) -> None:
        n_pages = sum(2 + len(value) // self._page for _, value in self._pending) + _N_SPARE_PAGES
        self._env.set_mapsize((self._env.info()["last_pgno"] + 1 + n_pages) * self._page)
        with _as_os_error(self._path), self._env.begin(write=True) as transaction:
            for key, value in self._pending:
                transaction.put(key, value, append=True)
        self._pending.clear()
        self._n_pending_bytes = 0

    def finish(self) -> None:
        meta = {"version": VERSION, "rows": self._n_rows, "fields": SAMPLE_SCHEMA.names}
        self._put(META_KEY, msgpack.packb(meta))
        self._flush()
        self._env.close()
        with open(self._path, "rb+") as file:
            os.fsync(file.fileno())

    def abandon(self) -> None:
        self._env.close()


class Reader:
    """See `licet.shards.ShardReader`."""

    def __init__(self, path: str, index: ShardIndex) -> None:
        self._path, self._index = path, index
        try:
            self._environment = _Environment(path)
        except OSError as error:
            raise ShardDamagedError(path, "whole file", error.strerror or str(error)) from error
        try:
            with self._environment.begin() as transaction:
                meta = transaction.get(META_KEY)
                rows = msgpack.unpackb(meta)["rows"] if meta is not None else None
        except (lmdb.Error, OSError, ValueError, TypeError, KeyError) as error:
            self.close()
            raise ShardDamagedError(path, "metadata", str(error)) from error
        if rows != len(index):
            self.close()
            raise ShardDamagedError(path, "metadata", f"it tells of {rows} rows where the index has {len(index)}")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: int) -> Sample:
        number, _, _ = self._index.place(position)
        try:
            with self._environment.begin() as transaction:  # values are buffers into the map: valid inside only
                value = transaction.get(_key(number))
                if value is None:
                    raise ValueError("it is missing")
                check_record(self._path, position, self._index, value)
                return decode(value)
        except (lmdb.Error, ValueError, TypeError) as error:
            raise ShardDamagedError(self._path, record_name(self._index, position), str(error)) from error

    def close(self) -> None:
        self._environment.release()


class _Environment:
    """The read-only environment of a file, one for all its readers in a process: LMDB must not open a file twice.

    A forked child closes what it inherited and opens its own when it first reads.
    """

    _guard = threading.Lock()
    _opened: ClassVar[dict[tuple[int, int], tuple[lmdb.Environment, set[_Environment]]]] = {}
    """(device, inode) -> the environment and who uses it."""

    def __init__(self, path: str) -> None:
        self._path = path
        status = os.stat(path)
        self._file = status.st_dev, status.st_ino
        self._released = False

    def begin(self) -> lmdb.Transaction:
        """A read transaction that hands out buffers. Raises `lmdb.Error`."""
        with self._guard:
            if self._released:
                raise RuntimeError(f"the reader of {self._path} is closed")
            if self._file not in self._opened:
                environment = lmdb.open(self._path, subdir=False, readonly=True, lock=False)
                self._opened[self._file] = environment, set()
            environment, users = self._opened[self._file]
            users.add(self)
        return environment.begin(buffers=True)

    def release(self) -> None:
        """Close the environment when nobody else in this process uses it."""
        with self._guard:
            self._released = True
            environment, users = self._opened.get(self._file, (None, set()))
            users.discard(self)
            if environment is not None and not users:
                environment.close()
                del self._opened[self._file]

    @classmethod
    def forget_inherited(cls) -> None:
        cls._guard = threading.Lock()  # a thread of the parent may have held the other one
        for environment, _ in cls._opened.values():
            environment.close()  # without locks this unmaps the child's copy and touches nothing of the parent's
        cls._opened.clear()


os.register_at_fork(after_in_child=_Environment.forget_inherited)


@contextlib.contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """LMDB's errors while writing, as OSError. It reports a write cut short by a full disk as an input/output error."""
    try:
        yield
    except lmdb.Error as error:
        number = errno.ENOSPC if isinstance(error, lmdb.DiskError) else errno.EIO
        raise OSError(number, f"{error} (is the disk full?)", path) from error


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")
