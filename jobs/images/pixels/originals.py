"""Whether a file may be stored as it came, byte for byte. It looks at metadata alone, and says no when in doubt."""

from __future__ import annotations

from jobs.images.decoding import Header
from jobs.images.decoding.icc import is_srgb
from jobs.images.options import ImageFormat
from jobs.images.pixels.exif import has_gps

_KIND: dict[ImageFormat, str] = {"jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
_PLACES = (b"GPSLatitude", b"GPSLongitude")
"""XMP's words, in any of its namespaces and spellings."""
_PACKED = (b"Raw profile type", b"XML:com.adobe.xmp\0\1")
"""PNG: metadata in hexadecimal or compressed, which nobody looks into here."""
_JPEG_START = b"\xff\xd8\xff"


def may_be_kept(data: bytes, header: Header, image_format: ImageFormat, keep_gps: bool) -> bool:
    """Whether `data` is already what would be stored: its format, upright, opaque, sRGB of 8 bits, a single picture."""
    return (
        header.kind == _KIND[image_format]
        and header.orientation == 1
        and header.frames == 1
        and header.bits <= 8
        and header.channels in (1, 3)
        and not header.has_alpha
        and (not header.icc or is_srgb(header.icc))
        and (keep_gps or not _says_where(data, header))
        and not _holds_more(data, header.kind)
    )


def _says_where(data: bytes, header: Header) -> bool:
    return has_gps(header.exif) or any(word in data for word in _PLACES + _PACKED)


def _holds_more(data: bytes, kind: str) -> bool:
    """Whether a JPEG holds another (a thumbnail of what was cropped away), or a file something after its end."""
    if kind == "jpeg":
        return data.count(_JPEG_START) > 1 or not data.rstrip(b"\0").endswith(b"\xff\xd9")
    if kind == "png":
        return not data.endswith(b"IEND\xaeB`\x82")
    if kind == "webp":
        return len(data) > int.from_bytes(data[4:8], "little") + 8
    return False
