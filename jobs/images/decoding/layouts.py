"""Where each format keeps its header fields: read_header(data) -> Header.

Pure Python over the bytes: a header that lies can cost a wrong number here, never memory. Sources: ITU-T T.81 (JPEG),
the PNG specification (third edition), GIF89a, RFC 9649 (WebP), BMP's headers; TIFF and AVIF have files of their own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from jobs.images.decoding.avif import avif, is_avif
from jobs.images.decoding.header import Header
from jobs.images.decoding.reasons import Refused
from jobs.images.decoding.tiff import orientation, tiff

_MAX_ICC_BYTES = 8 << 20
"""What a compressed profile may grow to. Printers' profiles have 3 MB at most."""


def read_header(data: bytes) -> Header:
    """Kind by magic bytes, fields by the format's layout.

    Raises `Refused`: not-an-image for what is on no list, damaged-image for a header that cannot be read.
    """
    reader = _reader(data)
    if reader is None:
        raise Refused("not-an-image", f"{len(data)} bytes beginning {data[:12]!r}")
    try:
        return reader(data)
    except (ValueError, IndexError, KeyError, StopIteration, OverflowError, struct.error, zlib.error) as error:
        raise Refused("damaged-image", f"{reader.__name__.strip('_')} header: {error}") from error


def _reader(data: bytes) -> Callable[[bytes], Header] | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    if is_avif(data):
        return avif
    return next((reader for magic, reader in _READERS if data.startswith(magic)), None)


# JPEG


def _jpeg(data: bytes) -> Header:
    """Segments up to the first scan (T.81 annex B). Bytes between segments are skipped, as libjpeg does."""
    frame: tuple[int, int, int, int] | None = None
    exif, profile, adobe = b"", {}, False
    for marker, body in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xEE and body.startswith(b"Adobe"):
            adobe = True
    if frame is None:
        raise ValueError("no frame before the first scan")
    bits, height, width, channels = frame
    icc = b"".join(profile[number] for number in sorted(profile))
    return Header(
        "jpeg",
        width,
        height,
        1,
        orientation(exif),
        False,
        channels=channels,
        bits=bits,
        inverted=channels == 4 and not adobe,
        icc=icc,
        exif=exif,
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of the segments before the first scan."""
    position = 2
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            raise ValueError("no scan")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 2
        elif marker in (0xD9, 0xDA):
            return
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            yield marker, data[position + 4 : position + 2 + length]
            position += 2 + max(length, 2)


# PNG

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(data: bytes) -> Header:
    """IHDR, and the chunks that say something of colour, frames and orientation."""
    if data[12:16] != b"IHDR":
        raise ValueError("the first chunk is not IHDR")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    frames, alpha, icc, exif = 1, colour in (4, 6), b"", b""
    position = 33
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length] if kind != b"IDAT" else b""
        if kind == b"acTL":
            frames = struct.unpack_from(">I", body)[0]
        elif kind == b"tRNS":
            alpha = True
        elif kind == b"iCCP":
            icc = zlib.decompressobj().decompress(body[body.index(b"\0") + 2 :], _MAX_ICC_BYTES)
        elif kind == b"eXIf":
            exif = body
        position += 12 + length
    return Header(
        "png", width, height, frames, orientation(exif), alpha, _PNG_CHANNELS[colour], bits, icc=icc, exif=exif
    )


# GIF


def _gif(data: bytes) -> Header:
    """The screen, enlarged by a first image that reaches beyond it, and the number of images."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _colours(flags)
    frames, alpha = 0, False
    while position < len(data):
        kind = data[position]
        if kind == 0x21:
            alpha = alpha or (frames == 0 and data[position + 1] == 0xF9 and bool(data[position + 3] & 1))
            position = _after_blocks(data, position + 2)
        elif kind == 0x2C:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, position + 1)
            if frames == 0:
                width, height = max(width, left + across), max(height, top + down)
            frames += 1
            position = _after_blocks(data, position + 11 + _colours(flags))
        else:
            break
    if frames == 0:
        raise ValueError("no image")
    return Header("gif", width, height, frames, 1, alpha, channels=1)


def _colours(flags: int) -> int:
    """Bytes of the colour table that `flags` announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    """The offset behind a chain of data sub-blocks, or of the end of a file that is cut within it."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1


# WebP


def _webp(data: bytes) -> Header:
    """RIFF chunks: VP8X where it stands, else the one bitstream."""
    size: tuple[int, int] | None = None
    frames, alpha, icc, exif = 0, False, b"", b""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        at = position + 8
        if kind == b"VP8X":
            alpha = bool(data[at] & 0x10)
            size = (
                1 + int.from_bytes(data[at + 4 : at + 7], "little"),
                1 + int.from_bytes(data[at + 7 : at + 10], "little"),
            )
        elif kind == b"VP8 " and size is None:
            across, down = struct.unpack_from("<HH", data, at + 6)
            size = across & 0x3FFF, down & 0x3FFF
        elif kind == b"VP8L" and size is None:
            (fields,) = struct.unpack_from("<I", data, at + 1)
            size, alpha = (1 + (fields & 0x3FFF), 1 + (fields >> 14 & 0x3FFF)), bool(fields >> 28 & 1)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"ICCP":
            icc = data[at : at + length]
        elif kind == b"EXIF":
            exif = data[at : at + length].removeprefix(b"Exif\0\0")
        position = at + length + (length & 1)
    if size is None:
        raise ValueError("no picture")
    return Header("webp", *size, max(frames, 1), orientation(exif), alpha, icc=icc, exif=exif)


# BMP


def _bmp(data: bytes) -> Header:
    """The device-independent bitmap's header, old (12 bytes) or new. A negative height means top to bottom."""
    (size,) = struct.unpack_from("<I", data, 14)
    width, height, _, bits = struct.unpack_from("<HHHH" if size == 12 else "<iiHH", data, 18)
    return Header("bmp", width, abs(height), 1, 1, bits == 32, channels=max(bits // 8, 1))


_READERS: tuple[tuple[bytes, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"BM", _bmp),
    (b"II*\0", tiff),
    (b"MM\0*", tiff),
    (b"II+\0", tiff),
    (b"MM\0+", tiff),
)
