"""EXIF as JSON, bounded, without maker notes and thumbnails, and without GPS unless it is asked for. Pure."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

MOST_BYTES = 8_192
"""Longest JSON; tags that come later in the alphabet are dropped."""

_LONGEST_TEXT, _LONGEST_ASCII, _MOST_NUMBERS = 500, 64, 16
_GPS, _EXIF = ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif
_DROPPED = frozenset(
    {
        "ExifOffset", "GPSInfo", "ExifInteroperabilityOffset", "SubIFDs",  # where other blocks are
        "StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "FreeOffsets", "FreeByteCounts",
        "JpegIFOffset", "JpegIFByteCount",
        "MakerNote", "XMLPacket", "IPTCNAA", "ImageResources", "InterColorProfile",  # blocks that may hold anything
        "Orientation",  # the stored image is upright
    }
)  # fmt: skip
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, ZeroDivisionError,
    AttributeError, struct.error,
)  # fmt: skip


def exif_json(exif: bytes, keep_gps: bool = False) -> str:
    """Tags by name, sorted, from an EXIF block in its TIFF structure. `{}` for a block that is empty or broken.

    Rationals are numbers; of bytes only short printable text is kept (such as ExifVersion). Tags that EXIF 2.32
    does not name are dropped.
    """
    try:
        tags = dict(_tags(exif, keep_gps)) if exif else {}
    except _DAMAGE:
        return "{}"  # says nothing about the picture
    kept: dict[str, Any] = {}
    room = MOST_BYTES - 2
    for name in sorted(tags):
        room -= len(json.dumps({name: tags[name]}, separators=(",", ":"))) - 1  # its braces, for a comma
        if room >= 0:
            kept[name] = tags[name]
    return json.dumps(kept, separators=(",", ":"))


def has_gps(exif: bytes) -> bool:
    """Whether an EXIF block says where the picture was taken. A broken block may."""
    try:
        return bool(exif) and bool(_loaded(exif).get_ifd(_GPS))
    except _DAMAGE:
        return True


def _loaded(exif: bytes) -> Image.Exif:
    loaded = Image.Exif()
    loaded.load(exif)
    return loaded


def _tags(exif: bytes, keep_gps: bool) -> Iterator[tuple[str, Any]]:
    loaded = _loaded(exif)
    for block in (loaded, loaded.get_ifd(_EXIF)):
        yield from _named(block, ExifTags.TAGS, keep_gps)
    if keep_gps:
        yield from _named(loaded.get_ifd(_GPS), ExifTags.GPSTAGS, keep_gps)


def _named(block: Any, names: dict[int, str], keep_gps: bool) -> Iterator[tuple[str, Any]]:
    for tag, value in block.items():
        name = names.get(tag, "")
        plain = _plain(value)
        if name and name not in _DROPPED and plain is not None and (keep_gps or "GPS" not in name):
            yield name, plain


def _plain(value: object) -> Any:
    """What JSON can say of a value; None where that is nothing."""
    if isinstance(value, bytes):
        characters = value.rstrip(b"\0 ").decode("latin-1")
        short = 0 < len(characters) <= _LONGEST_ASCII
        return characters if short and characters.isascii() and characters.isprintable() else None
    if isinstance(value, str):
        text = value.replace("\0", " ").strip()[:_LONGEST_TEXT]
        return text.encode("utf-8", "replace").decode() or None
    if isinstance(value, (tuple, list)):
        plain = [_plain(v) for v in value[: _MOST_NUMBERS + 1]]
        return plain if 0 < len(plain) <= _MOST_NUMBERS and None not in plain else None
    if isinstance(value, (IFDRational, float)):
        number = float(value)
        return number if math.isfinite(number) else None
    return value if isinstance(value, int) else None
