"""WebDataset: a POSIX tar (ustar) in which the members of one sample follow each other.

    <key>.jpg | .png | .webp | .avif   the image    <key>.txt     the text itself, when the payload is text
    <key>.txt                    its caption
    <key>.json                   every other field of `Sample` (for text its caption too), under the field's own name

Owner, mode and time of every member are fixed, so that the same samples give the same bytes. The index's offset,
length and checksum cover all members of one sample, headers and padding included. Convention:
github.com/webdataset/webdataset.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import partial

from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import crc32c
from licet.shards.pread import FlatReader
from licet.shards.shard import Place, close_durably, create

RECORDS_COVER_STRUCTURE = True

_BLOCK = tarfile.BLOCKSIZE


class Writer:
    """See `licet.shards.shard.FormatWriter`."""

    def __init__(self, path: str) -> None:
        self._file = create(path)
        self._offset = 0

    def append(self, sample: Sample, encoded: bytes) -> Place:
        members = b"".join(_member(f"{sample.key}.{extension}", data) for extension, data in _parts(sample).items())
        place = Place(self._offset, len(members), crc32c(members))
        self._file.write(members)
        self._offset += len(members)
        return place

    def finish(self) -> None:
        """Two empty blocks end a tar, which is a multiple of 20 blocks long."""
        n_end = 2 * _BLOCK
        self._file.write(bytes(n_end + -(self._offset + n_end) % tarfile.RECORDSIZE))
        close_durably(self._file)

    def abandon(self) -> None:
        self._file.close()


def _parts(sample: Sample) -> dict[str, bytes]:
    """Extension -> bytes of each member, in order."""
    parts: dict[str, bytes] = {sample.payload_format: sample.payload}
    if sample.payload_format != "txt":
        parts["txt"] = sample.caption.encode()
    own = {"payload"} if sample.payload_format == "txt" else {"payload", "caption"}
    rest = {name: getattr(sample, name) for name in SAMPLE_SCHEMA.names if name not in own}
    return {**parts, "json": json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()}


def _header(name: str, n_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = n_bytes, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 135), slice(148, 154)
_EMPTY_HEADER = _header("", 0)
_SUM = sum(_EMPTY_HEADER) - sum(_EMPTY_HEADER[_SIZE]) - sum(_EMPTY_HEADER[_CHECKSUM]) + 6 * ord(" ") + ord(" ")
"""Of a header without name and size, the checksum's digits and its zero counted as blanks (POSIX.1-1988)."""


def _member(name: str, data: bytes) -> bytes:
    """A member with its header, which only differs from others in name, size and checksum: tarfile is slow at it."""
    encoded, size = name.encode(), b"%011o" % len(data)
    if len(encoded) > 100 or len(size) > 11:
        return _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)
    header = bytearray(_EMPTY_HEADER)
    header[_NAME], header[_SIZE] = encoded.ljust(100, b"\0"), size
    header[_CHECKSUM] = b"%06o" % (_SUM + sum(encoded) + sum(size))
    return b"".join((header, data, bytes(-len(data) % _BLOCK)))


def _sample(path: str, members: bytes) -> Sample:
    parts = dict(_members(members))
    rest = json.loads(parts["json"])
    if rest["payload_format"] != "txt":
        rest["caption"] = parts["txt"].decode()
    return Sample(payload=parts[rest["payload_format"]], **rest)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Extension and bytes of each member. The checksum has vouched for the headers: only name and size are read."""
    start = 0
    while start < len(data):
        name = data[start : start + 100].rstrip(b"\0").decode()
        n_bytes = int(data[start + 124 : start + 135], 8)
        start += _BLOCK
        yield name.rpartition(".")[2], data[start : start + n_bytes]
        start += n_bytes + -n_bytes % _BLOCK


Reader = partial(FlatReader, sample_of=_sample)
"""See `licet.shards.ShardReader`."""
