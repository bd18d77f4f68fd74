"""decode(data, limits, min_size_px) -> Pixels: upright, sRGB, uint8. Pure: the same bytes always give the same pixels.

JPEG goes to libjpeg-turbo through simplejpeg, which decodes at a fraction of the size where that is enough; the rest,
and every JPEG that simplejpeg will not read, goes to Pillow. Colour is `colour.py`'s.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from jobs.images.decoding.colour import to_srgb
from jobs.images.decoding.header import SWAPPING_ORIENTATIONS, Header, Limits
from jobs.images.decoding.layouts import read_header
from jobs.images.decoding.reasons import Refused

_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,  # what Pillow raises for a broken PNG chunk
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)
RGB = tuple[int, int, int]

SPARE = 1.5
"""How many times the wanted size a scaled decode keeps, in each direction.

Measured on 1 to 2 Mpx photos brought to 256 px, against a full decode: see `benchmarks/decoders.py`.
"""
_SCALES = (8, 4, 2)
"""Divisors at which libjpeg-turbo has SIMD code. Others, such as 5/8, take longer than decoding in full."""

# The limits are ours and come from the header.
Image.MAX_IMAGE_PIXELS = None
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
warnings.filterwarnings("ignore", module="PIL")


_LIMITS = Limits()


@dataclass(frozen=True)
class Pixels:
    """A picture as it is seen."""

    rgb: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) uint8, sRGB, contiguous. Smaller than the original where scaled decoding was allowed."""
    original_width: int
    original_height: int
    """Of the upright picture in the file."""
    exif: bytes = field(repr=False)
    """The EXIF block as a TIFF structure, without the `Exif` prefix; empty where there is none."""
    kind: str


def decode(
    data: bytes,
    limits: Limits = _LIMITS,
    min_size_px: tuple[int, int] | None = None,
    background: RGB = (255, 255, 255),
) -> Pixels:
    """Decode the first frame, turn it upright, flatten transparency on `background`, convert to sRGB.

    `min_size_px` is (width, height) of the upright picture that the caller will scale down to: a JPEG may come out at
    1/2, 1/4 or 1/8 of its size, never below `SPARE` times that. None decodes in full. Raises `Refused`.
    """
    header = read_header(data)
    header.check(limits)
    if (header.kind == "jpeg" and header.bits != 8) or (header.planar and header.bits == 16):
        # libjpeg-turbo has no 12 bits here, and Pillow reads the low bytes of 16-bit planes
        raise Refused("unsupported-pixels", f"{header.kind} of {header.bits} bits")
    try:
        rgb = _decoded(data, header, _divisor(header, min_size_px), background)
        if header.kind != "tiff":  # Pillow turns those itself
            rgb = _turned(rgb, header.orientation)
    except _DAMAGE as error:
        unknown = header.kind == "tiff" and isinstance(error, UnidentifiedImageError)
        reason = "unsupported-pixels" if unknown else "damaged-image"
        raise Refused(reason, f"{header.kind}: {'no decoder for its layout' if unknown else error}") from error
    return Pixels(np.ascontiguousarray(rgb), *header.upright_size, header.exif, header.kind)


def _divisor(header: Header, min_size_px: tuple[int, int] | None) -> int:
    """By how much a JPEG's sides may be divided while decoding."""
    if min_size_px is None:
        return 1
    (width, height), (min_width, min_height) = header.upright_size, min_size_px
    fits = (n for n in _SCALES if width >= n * SPARE * min_width and height >= n * SPARE * min_height)
    return next(fits, 1)


def _decoded(data: bytes, header: Header, divisor: int, background: RGB) -> NDArray[np.uint8]:
    """(H, W, 3), not yet turned unless it is a TIFF."""
    if header.kind == "jpeg" and header.channels in (1, 3):
        pixels = _libjpeg(data, header, divisor)
        if pixels is not None:
            return np.asarray(to_srgb(Image.fromarray(pixels), header, background)) if header.icc else pixels
    with Image.open(io.BytesIO(data), formats=[header.kind.upper()]) as image:
        promised = header.upright_size if header.kind == "tiff" else (header.width, header.height)
        if image.size != promised:
            raise ValueError(f"{image.size} pixels where the header promised {promised}")
        if header.kind == "jpeg" and divisor > 1:
            image.draft(None, (header.width // divisor, header.height // divisor))
        image.load()
        return np.asarray(to_srgb(image, header, background))


def _libjpeg(data: bytes, header: Header, divisor: int) -> NDArray[np.uint8] | None:
    """(H, W, 3), or (H, W) for a grey file with a profile. None for what is truncated or odd: Pillow tells which."""
    size = -(-header.width // divisor), -(-header.height // divisor)
    grey = header.channels == 1 and header.has_icc
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "GRAY" if grey else "RGB", min_width=size[0], min_height=size[1]
        )
    except ValueError:
        return None
    return pixels[..., 0] if grey else pixels


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation: a view of (H, W, 3), or of (W, H, 3) for 5 to 8."""
    if orientation in SWAPPING_ORIENTATIONS:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
