"""The index file beside each shard: where each record lies, its checksum, and what a selection may ask of it.

An index is an uncompressed Arrow IPC file, so that a reader maps it and loads nothing. It is the only file that grows
with the number of samples and that a trainer keeps open. `live`, `licence`, `attribution` and `creator` may be newer
here than in the shard: a deduplication or an opt-out writes a new index and never edits a shard.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import google_crc32c
import msgpack
import numpy as np
import pyarrow as pa

from licet.errors import ShardDamagedError
from licet.records import SAMPLE_SCHEMA, Sample

INDEX_SCHEMA = pa.schema(
    [
        pa.field("offset", pa.uint64(), nullable=False),  # bytes from the shard's start, or the format's record number
        pa.field("length", pa.uint64(), nullable=False),  # bytes that the checksum covers
        pa.field("crc32c", pa.uint32(), nullable=False),
        pa.field("content", pa.binary(32), nullable=False),  # SHA-256 of `encode(sample)`: the same in every format
        pa.field("live", pa.bool_(), nullable=False),
        *[SAMPLE_SCHEMA.field(f.name) for f in fields(Sample) if f.name != "payload"],
    ]
)
"""One row per record of the shard, in the order written."""

_FIELDS = tuple(f.name for f in fields(Sample))


def encode(sample: Sample) -> bytes:
    """The canonical encoding: a MessagePack map of every field, in schema order. LMDB stores it as it is."""
    encoded: bytes = msgpack.packb({name: getattr(sample, name) for name in _FIELDS}, use_bin_type=True)
    return encoded


def decode(encoded: bytes | memoryview) -> Sample:
    """The sample in a canonical encoding. Raises ValueError or TypeError when it is not one."""
    return Sample(**msgpack.unpackb(encoded, raw=False))


def content_digest(sample: Sample) -> bytes:
    """SHA-256 of the canonical encoding, 32 bytes: what a manifest's identity is made of."""
    return hashlib.sha256(encode(sample)).digest()


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli, RFC 3720) of the bytes, which are not copied: the library takes no memoryview."""
    return int(google_crc32c.value(data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)))


def index_path(shard_path: str) -> str:
    """Where a shard's first index lies."""
    return shard_path + ".index.arrow"


class IndexBuilder:
    """Collects index rows while a writer writes."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in INDEX_SCHEMA.names}

    def add(self, sample: Sample, offset: int, length: int, checksum: int, content: bytes) -> None:
        """Note one record: `offset` and `length` in bytes, `checksum` as CRC-32C, `content` as `content_digest`."""
        own = {"offset": offset, "length": length, "crc32c": checksum, "content": content, "live": True}
        for name, column in self._columns.items():
            column.append(own[name] if name in own else getattr(sample, name))

    def build(self) -> ShardIndex:
        return ShardIndex(pa.table(self._columns, schema=INDEX_SCHEMA))


class ShardIndex:
    """An index in memory or mapped from its file."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._offset, self._length, self._crc32c = (
            table.column(name).combine_chunks().to_numpy() for name in ("offset", "length", "crc32c")
        )  # views of the table's own memory

    @classmethod
    def open(cls, path: str, verified: bool = False) -> ShardIndex:
        """Map an index file. Raises `ShardDamagedError` when it is absent or not an index.

        `verified` says that the caller has compared its hash. Otherwise all of it is read once, so that no damage
        leads outside its columns; values are believed, and records are still checked against them.
        """
        try:
            with pa.memory_map(path) as source:
                table = pa.ipc.open_file(source).read_all()
            if not table.schema.equals(INDEX_SCHEMA):
                raise ShardDamagedError(path, "index", "its columns are not those of an index")
            table.validate(full=not verified)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ShardDamagedError(path, "index", str(error).split("\n")[0]) from error
        return cls(table)

    def write(self, path: str) -> None:
        """Write the index file and fsync it; a file that cannot be written whole is removed."""
        with open(path, "wb") as file:
            try:
                with pa.ipc.new_file(file, INDEX_SCHEMA) as writer:
                    writer.write_table(self.table.combine_chunks())
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(path)
                raise

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def place(self, position: int) -> tuple[int, int, int]:
        """(offset, length, crc32c) of the record at a position. Raises IndexError."""
        if not 0 <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        return int(self._offset[position]), int(self._length[position]), int(self._crc32c[position])

    def key(self, position: int) -> str:
        """Key of the sample at a position."""
        return str(self.table.column("key")[position].as_py())

    def revised(self, changes: Mapping[str, Mapping[str, Any]]) -> ShardIndex:
        """A copy in which the rows with these keys have other values: `{key: {"live": False}}`."""
        positions = {key: i for i, key in enumerate(self.table.column("key").to_pylist())}
        table = self.table
        for name in sorted({name for values in changes.values() for name in values}):
            column = table.column(name).to_pylist()
            for key, values in changes.items():
                if key in positions and name in values:
                    column[positions[key]] = values[name]
            field = INDEX_SCHEMA.field(name)
            table = table.set_column(table.schema.get_field_index(name), field, pa.array(column, field.type))
        return ShardIndex(table)

    def live(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """One flag per record: may it be used?"""
        flags: np.ndarray[Any, np.dtype[np.bool_]] = self.table.column("live").to_numpy()
        return flags

    def live_positions(self) -> list[int]:
        """Positions of the records that may be used."""
        positions: list[int] = np.flatnonzero(self.live()).tolist()
        return positions


def content_hash(contents: Iterable[bytes]) -> str:
    """SHA-256, in hexadecimal, over records' content digests in order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def file_sha256(path: str) -> str:
    """SHA-256 of a local file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_record(shard: str, position: int, index: ShardIndex, data: bytes | memoryview) -> None:
    """Compare a record's bytes with its checksum. Raises `ShardDamagedError` naming the shard and the record."""
    _, length, expected = index.place(position)
    if len(data) != length:
        raise ShardDamagedError(shard, record_name(index, position), f"{len(data)} bytes where {length} were written")
    if crc32c(data) != expected:
        raise ShardDamagedError(shard, record_name(index, position), "its checksum does not match its bytes")


def record_name(index: ShardIndex, position: int) -> str:
    """How an error names a record."""
    return f"record {position} (key {index.key(position)})"


def total_by(indexes: Sequence[ShardIndex], column: str) -> dict[str, int]:
    """Live rows of these indexes, counted by a text column."""
    counts: Counter[str] = Counter()
    for index in indexes:
        counts.update(index.table.filter(index.table.column("live")).column(column).to_pylist())
    return dict(sorted(counts.items()))
