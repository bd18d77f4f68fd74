"""AVIF's boxes: the primary item's size, turn and metadata, or an animation's track. Decodes no pixels.

ISO/IEC 14496-12 (boxes, items, tracks), 23008-12 (item properties), and the AV1 Image File Format on top of them.
The AV1 stream within may be larger than its item says: libavif then decodes it whole (up to 268 million pixels) and
shrinks it. Only the memory limit of `isolation.py` stands against that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from jobs.images.decoding.header import Header

# What (irot quarter turns anti-clockwise, imir axis or None) come to, as an EXIF orientation. irot is applied first.
# imir axis 0 exchanges top and bottom, axis 1 left and right.
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def is_avif(data: bytes) -> bool:
    """Whether the file-type box names AVIF as its brand, or among those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return False
    size = int.from_bytes(data[:4], "big")
    brands = data[8 : min(size, 512)]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in (0, *range(8, len(brands), 4)))


def avif(data: bytes) -> Header:
    """Header of an AVIF file: of the largest that its item and its track promise."""
    boxes = dict(_boxes(data, 0, len(data)))
    if b"meta" not in boxes:
        raise ValueError("no meta box")
    meta = dict(_boxes(data, boxes[b"meta"][0] + 4, boxes[b"meta"][1]))
    properties, own = _properties(data, meta)
    width = height = bits = 0
    turns, axis, icc = 0, None, b""
    for kind, start, end in own:
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", data, start + 4)
        elif kind == b"irot":
            turns = data[start] & 3
        elif kind == b"imir":
            axis = data[start] & 1
        elif kind == b"pixi":
            bits = data[start + 5]
        elif kind == b"colr" and data[start : start + 4] in (b"prof", b"rICC"):
            icc = data[start + 4 : end]
    frames = 1
    if b"moov" in boxes and data[8:12] == b"avis":
        frames, track_width, track_height = _tracks(data, boxes[b"moov"])
        width, height = max(width, track_width), max(height, track_height)
    return Header(
        kind="avif",
        width=width,
        height=height,
        frames=frames,
        orientation=_ORIENTATIONS[turns, axis],
        has_alpha=any(kind == b"auxC" and data[at + 4 : end].split(b"\0")[0] in _ALPHA for kind, at, end in properties),
        bits=bits or 8,
        icc=icc,
        exif=_exif(data, meta),
    )


Span = tuple[int, int]
"""(first byte, one past the last) of what a box holds."""


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, Span]]:
    """The boxes that lie side by side between two offsets."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head:
            raise ValueError(f"a box of {size} bytes")
        yield kind, (start + head, min(start + size, end))
        start += size


def _properties(
    data: bytes, meta: dict[bytes, Span]
) -> tuple[list[tuple[bytes, int, int]], list[tuple[bytes, int, int]]]:
    """(all item properties, those of the primary item), as (kind, start, end)."""
    pitm = meta[b"pitm"][0]
    primary = int.from_bytes(data[pitm + 4 : pitm + (6 if data[pitm] == 0 else 8)], "big")
    iprp = dict(_boxes(data, *meta[b"iprp"]))
    properties = [(kind, *span) for kind, span in _boxes(data, *iprp[b"ipco"])]
    indices = _associations(data, iprp[b"ipma"][0], primary)
    return properties, [properties[index - 1] for index in indices if 1 <= index <= len(properties)]


def _associations(data: bytes, at: int, item: int) -> list[int]:
    """Indices, from 1, of the properties that `ipma` gives to an item."""
    version, wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(entries):
        item_id = int.from_bytes(data[at : at + (2 if version == 0 else 4)], "big")
        at += 2 if version == 0 else 4
        count = data[at]
        step = 2 if wide else 1
        raw = [int.from_bytes(data[at + 1 + step * i : at + 1 + step * (i + 1)], "big") for i in range(count)]
        if item_id == item:
            return [value & (0x7FFF if wide else 0x7F) for value in raw]
        at += 1 + step * count
    raise ValueError("the primary item has no properties")


def _exif(data: bytes, meta: dict[bytes, Span]) -> bytes:
    """The Exif item's TIFF structure; empty where there is none, or where it lies outside of the file."""
    try:
        item = next(n for n, kind in _items(data, meta[b"iinf"]) if kind == b"Exif")
        start, length = _place(data, meta[b"iloc"][0], item)
    except (StopIteration, KeyError, IndexError, struct.error):
        return b""
    block = data[start : start + length]
    skip = 4 + int.from_bytes(block[:4], "big")
    return block[skip:] if block[skip : skip + 2] in (b"II", b"MM") else b""


def _items(data: bytes, span: Span) -> Iterator[tuple[int, bytes]]:
    """(item id, type) of `iinf`'s entries."""
    start, end = span
    for kind, (at, _) in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[at] >= 2:
            wide = 4 if data[at] == 3 else 2
            yield int.from_bytes(data[at + 4 : at + 4 + wide], "big"), data[at + 6 + wide : at + 10 + wide]


def _place(data: bytes, at: int, item: int) -> Span:
    """(offset, length) of an item's first extent in the file."""
    version = data[at]
    offset_size, length_size, base_size, index_size = (
        data[at + 4] >> 4,
        data[at + 4] & 15,
        data[at + 5] >> 4,
        data[at + 5] & 15,
    )
    at += 6

    def take(n_bytes: int) -> int:
        nonlocal at
        if at + n_bytes > len(data):
            raise IndexError("iloc ends too early")
        value = int.from_bytes(data[at : at + n_bytes], "big")
        at += n_bytes
        return value

    for _ in range(take(2 if version < 2 else 4)):
        item_id = take(2 if version < 2 else 4)
        take(2 if version else 0)  # construction method
        take(2)  # data reference
        base = take(base_size)
        extents = []
        for _ in range(take(2)):
            take(index_size if version else 0)
            offset = take(offset_size)
            extents.append((base + offset, take(length_size)))
        if item_id == item and extents:
            return extents[0]
    raise KeyError(item)


def _tracks(data: bytes, moov: Span) -> tuple[int, int, int]:
    """(samples of the longest track, widest width, highest height)."""
    frames = width = height = 0
    for kind, span in _boxes(data, *moov):
        if kind != b"trak":
            continue
        track = dict(_boxes(data, *span))
        tkhd = track[b"tkhd"][0]
        at = tkhd + (88 if data[tkhd] == 1 else 76)
        width = max(width, struct.unpack_from(">I", data, at)[0] >> 16)
        height = max(height, struct.unpack_from(">I", data, at + 4)[0] >> 16)
        table = dict(_boxes(data, *dict(_boxes(data, *dict(_boxes(data, *track[b"mdia"]))[b"minf"]))[b"stbl"]))
        frames = max(frames, struct.unpack_from(">I", data, table[b"stsz"][0] + 8)[0])
    return max(frames, 1), width, height
