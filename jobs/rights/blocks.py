"""Where an image file keeps its metadata: XMP packets, IPTC records, C2PA manifest stores.

    blocks_of(data) -> Blocks

Walks the segments or chunks that come before or between the pixels of JPEG, PNG and WebP, and never touches the pixels:
5 µs for a JPEG. TIFF has a table of contents. GIF and AVIF are searched for the marks by which such blocks begin.
Untrusted bytes: every step moves forward, every number of steps and every size has a bound, nothing is raised.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

MAX_XMP_BYTES = 1 << 20
MAX_C2PA_BYTES = 16 << 20
_MAX_BLOCKS = 4  # of each kind
_MAX_SEGMENTS = 4_096
_MAX_CHUNKS = 65_536
_MAX_TAGS = 512

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_MORE_XMP_HEAD = len(_MORE_XMP) + 32 + 4 + 4  # the packet's MD5 in hexadecimal, its length, this part's offset
_PHOTOSHOP = b"Photoshop 3.0\0"
_ITXT = b"XML:com.adobe.xmp\0"
_RDF = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_C2PA_GIF = b"!\xff\x0bC2PA_GIF"
_C2PA_BOX = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"

_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_LITTLE_U32 = struct.Struct("<I").unpack_from


@dataclass(slots=True)
class Blocks:
    """The metadata of one image, as it lies there."""

    subtype: str
    """Of the media type image/…, by the first bytes; empty when they are of no image that we know."""
    xmp: list[bytes] = field(default_factory=list)
    """RDF/XML."""
    photoshop: list[bytes] = field(default_factory=list)
    """Photoshop image resources, which hold the IPTC records."""
    c2pa: list[bytes] = field(default_factory=list)
    """JUMBF superboxes."""


def blocks_of(data: bytes) -> Blocks:
    """Every block of metadata that could speak of rights."""
    blocks = Blocks(subtype_of(data))
    if blocks.subtype == "jpeg":
        _walk_jpeg(data, blocks)
    elif blocks.subtype == "png":
        _walk_png(data, blocks)
    elif blocks.subtype == "webp":
        _walk_webp(data, blocks)
    elif blocks.subtype == "tiff":
        _read_tiff(data, blocks)
    elif blocks.subtype in ("gif", "avif"):
        _search(data, blocks)
    return blocks


def subtype_of(data: bytes) -> str:
    """jpeg, png, webp, gif, avif, tiff, bmp, or nothing."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[4:8] == b"ftyp" and (b"avif" in data[8:64] or b"avis" in data[8:64]):
        return "avif"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    return "bmp" if data.startswith(b"BM") else ""


def _add(kept: list[bytes], block: bytes) -> None:
    """A file may say that it has thousands; what nobody would write is not read."""
    if block and len(kept) < _MAX_BLOCKS:
        kept.append(block)


def _walk_jpeg(data: bytes, blocks: Blocks) -> None:
    """ISO/IEC 10918-1, B.1: marker segments up to the first scan."""
    more_xmp: dict[int, bytes] = {}
    jumbf: dict[int, dict[int, bytes]] = {}
    at, end = 2, len(data) - 3
    for _ in range(_MAX_SEGMENTS):
        if at >= end or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        start, stop = at + 4, at + 2 + _U16(data, at + 2)[0]
        if marker == 0xE1 and data.startswith(_XMP, start):
            _add(blocks.xmp, data[start + len(_XMP) : stop])
        elif marker == 0xE1 and data.startswith(_MORE_XMP, start) and stop - start > _MORE_XMP_HEAD:
            (offset,) = _U32(data, start + _MORE_XMP_HEAD - 4)
            more_xmp[offset] = data[start + _MORE_XMP_HEAD : stop]
        elif marker == 0xEB and data.startswith(b"JP", start) and stop - start > 16:
            parts = jumbf.setdefault(_U16(data, start + 2)[0], {})
            parts[_U32(data, start + 4)[0]] = data[start + 8 : stop]
        elif marker == 0xED and data.startswith(_PHOTOSHOP, start):
            _add(blocks.photoshop, data[start + len(_PHOTOSHOP) : stop])
        at = max(stop, at + 2)
    if more_xmp:
        _add(blocks.xmp, b"".join(more_xmp[offset] for offset in sorted(more_xmp))[:MAX_XMP_BYTES])
    for boxes in jumbf.values():
        _add(blocks.c2pa, _join_boxes(boxes))


def _join_boxes(parts: dict[int, bytes]) -> bytes:
    """One JUMBF superbox from its APP11 segments, each of which repeats the box's header (ISO/IEC 19566-5, D.2)."""
    numbers = sorted(parts)
    first = parts[numbers[0]]
    head = 16 if first.startswith(b"\0\0\0\1") else 8
    return b"".join([first, *(parts[number][head:] for number in numbers[1:])])[:MAX_C2PA_BYTES]


def _walk_png(data: bytes, blocks: Blocks) -> None:
    """PNG, 5.3: length, type, content, checksum."""
    at, end = 8, len(data) - 8
    for _ in range(_MAX_CHUNKS):
        if at > end:
            break
        start, stop = at + 8, at + 8 + _U32(data, at)[0]
        kind = data[at + 4 : start]
        if kind == b"iTXt" and data.startswith(_ITXT, start) and len(blocks.xmp) < _MAX_BLOCKS:
            _add(blocks.xmp, _itxt(data[start + len(_ITXT) : min(stop, start + MAX_XMP_BYTES)]))
        elif kind == b"caBX":
            _add(blocks.c2pa, data[start : min(stop, start + MAX_C2PA_BYTES)])
        elif kind == b"IEND":
            break
        at = stop + 4


def _itxt(content: bytes) -> bytes:
    """The text of an iTXt chunk, its keyword taken off."""
    compressed, rest = content[:1] == b"\1", content[2:]
    text = rest.split(b"\0", 2)[-1]
    if not compressed:
        return text
    try:
        return zlib.decompressobj().decompress(text, MAX_XMP_BYTES)
    except zlib.error:
        return b""


def _walk_webp(data: bytes, blocks: Blocks) -> None:
    """RIFF: type, length (least byte first), content, padded to an even length."""
    at, end = 12, len(data) - 8
    for _ in range(_MAX_CHUNKS):
        if at > end:
            break
        kind, start = data[at : at + 4], at + 8
        stop = start + _LITTLE_U32(data, at + 4)[0]
        if kind == b"XMP ":
            _add(blocks.xmp, data[start : min(stop, start + MAX_XMP_BYTES)])
        elif kind == b"C2PA":
            _add(blocks.c2pa, data[start : min(stop, start + MAX_C2PA_BYTES)])
        at = stop + (stop & 1)


def _read_tiff(data: bytes, blocks: Blocks) -> None:
    """TIFF 6.0: the tags of the first image."""
    order = "<" if data.startswith(b"II") else ">"
    at = struct.unpack_from(order + "I", data, 4)[0] if len(data) >= 8 else len(data)
    if at + 2 > len(data):
        return
    for _ in range(min(struct.unpack_from(order + "H", data, at)[0], _MAX_TAGS)):
        if at + 14 > len(data):
            break
        tag, kind, n, start = struct.unpack_from(order + "HHII", data, at + 2)
        size = n * (4 if kind == 4 else 1)  # Adobe writes some of them as 32-bit numbers
        if tag == 700:
            _add(blocks.xmp, data[start : start + min(size, MAX_XMP_BYTES)])
        elif tag == 34377:
            _add(blocks.photoshop, data[start : start + min(size, MAX_XMP_BYTES)])
        elif tag == 52545:
            _add(blocks.c2pa, data[start : start + min(size, MAX_C2PA_BYTES)])
        at += 12


def _search(data: bytes, blocks: Blocks) -> None:
    """GIF and AVIF keep XMP in one piece, and AVIF C2PA too: cheaper to search for than to walk to."""
    named = data.find(_RDF)
    if named >= 0:
        near = max(0, named - 4_096)
        start, closing = data.rfind(b"<x:xmpmeta", near, named), b"</x:xmpmeta>"
        if start < 0:
            start, closing = max(data.rfind(b"<", near, named), near), b"</rdf:RDF>"
        stop = data.find(closing, named, named + MAX_XMP_BYTES)
        _add(blocks.xmp, data[start : stop + len(closing) if stop >= 0 else named + MAX_XMP_BYTES])
    if blocks.subtype == "gif":
        _gif_c2pa(data, blocks)
        return
    start = data.find(_C2PA_BOX) - 12  # the superbox's length and type, and the length of its description
    if start >= 0:
        _add(blocks.c2pa, data[start : start + MAX_C2PA_BYTES])


def _gif_c2pa(data: bytes, blocks: Blocks) -> None:
    """An application extension: its content in sub-blocks of at most 255 bytes, each led by its length."""
    at = data.find(_C2PA_GIF)
    if at < 0:
        return
    at += len(_C2PA_GIF) + 3  # three bytes of authentication code
    parts: list[bytes] = []
    while at < len(data) and data[at] and len(parts) < _MAX_CHUNKS:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    _add(blocks.c2pa, b"".join(parts))
