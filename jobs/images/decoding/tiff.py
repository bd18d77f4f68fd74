"""TIFF's directories, which are also EXIF's. Reads tags, decodes no pixels.

TIFF 6.0 section 2; BigTIFF (64-bit offsets); EXIF 2.3 section 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from jobs.images.decoding.header import Header

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES = 256, 257, 258, 262, 274, 277
PLANAR, EXTRA_SAMPLES, ICC = 284, 338, 34675
_WHITE_IS_ZERO, _SEPARATE_PLANES = 0, 2
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_PAGES = 1_000_000
"""Where counting stops: a page takes at least 18 bytes, so this is no real file."""


class _Layout(NamedTuple):
    """How one flavour of TIFF stores its directories."""

    order: str
    number: str
    entry: str
    offset: str


def _layout(data: bytes) -> tuple[_Layout, int]:
    """(layout, offset of the first directory)."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 42:
        layout = _Layout(order, "H", "HHI4s", "I")
        return layout, struct.unpack_from(order + "I", data, 4)[0]
    if version == 43:
        layout = _Layout(order, "Q", "HHQ8s", "Q")
        return layout, struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError(f"TIFF version {version}")


def directories(data: bytes) -> Iterator[dict[int, tuple[int, int, int]]]:
    """The chain of directories: tag -> (type, number of values, offset of the first value).

    A chain that bites its own tail raises `ValueError`.
    """
    layout, position = _layout(data)
    head, entry, tail = (struct.Struct(layout.order + part) for part in (layout.number, layout.entry, layout.offset))
    seen: set[int] = set()
    while position:
        if position in seen or len(seen) >= _MAX_PAGES:
            raise ValueError("the chain of directories does not end")
        seen.add(position)
        (count,) = head.unpack_from(data, position)
        start = position + head.size
        if start + count * entry.size > len(data):
            raise ValueError(f"a directory of {count} entries does not fit into the file")
        tags = {}
        for index in range(count):
            place = start + index * entry.size
            tag, type_, n, value = entry.unpack_from(data, place)
            inline = _SIZES.get(type_, 0) * n <= len(value)
            value_at = place + entry.size - len(value)
            tags[tag] = (type_, n, value_at if inline else struct.unpack(layout.order + layout.offset, value)[0])
        yield tags
        after = start + count * entry.size
        position = tail.unpack_from(data, after)[0] if after + tail.size <= len(data) else 0


def integer(data: bytes, tags: dict[int, tuple[int, int, int]], tag: int, default: int) -> int:
    """The first value of an integer tag, or `default` where it is absent or of another type."""
    type_, n, position = tags.get(tag, (0, 0, 0))
    if type_ not in _INTEGERS or n < 1:
        return default
    order = "<" if data[:2] == b"II" else ">"
    value: int = struct.unpack_from(order + _INTEGERS[type_], data, position)[0]
    return value


def orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 for whatever is broken, because a wrong tag must not cost the picture."""
    try:
        value = integer(exif, next(directories(exif), {}), ORIENTATION, 1)
    except (ValueError, KeyError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def tiff(data: bytes) -> Header:
    """Header of a TIFF file: the first directory's picture, and how many directories there are."""
    pages = directories(data)
    first = next(pages)
    channels = integer(data, first, SAMPLES, 1)
    _, icc_bytes, icc_at = first.get(ICC, (0, 0, 0))
    bits = integer(data, first, BITS, 1)
    return Header(
        kind="tiff",
        width=integer(data, first, WIDTH, 0),
        height=integer(data, first, HEIGHT, 0),
        frames=1 + sum(1 for _ in pages),
        orientation=orientation(data),
        has_alpha=integer(data, first, EXTRA_SAMPLES, 0) in (1, 2),
        channels=channels,
        bits=bits,
        planar=integer(data, first, PLANAR, 1) == _SEPARATE_PLANES,
        inverted=bits == 16 and integer(data, first, PHOTOMETRIC, 1) == _WHITE_IS_ZERO,
        icc=data[icc_at : icc_at + icc_bytes],
        exif=data,
    )
