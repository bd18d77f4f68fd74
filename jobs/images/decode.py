"""Bytes to upright sRGB pixels. Pure: the same bytes always give the same pixels.

    decode(fetched, max_pixels, background) -> Decoded | Rejected

This stage knows image files. It does not know where they came from or what size is wanted.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps

from jobs.images.records import Decoded, Fetched
from licet.records import Rejected

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,  # what Pillow raises for a broken PNG chunk
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})

# The limit is ours and comes from the header; Pillow's own warning at half of its limit adds nothing.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(fetched: Fetched, max_pixels: int, background: tuple[int, int, int] = (255, 255, 255)) -> Decoded | Rejected:
    """Decode the first frame, turn it upright, flatten transparency on `background` and convert it to sRGB.

    `max_pixels` is checked against the header, before anything is decoded; Pillow refuses 179 million in any case.
    """

    def rejected(reason: str, detail: str) -> Rejected:
        return Rejected(fetched.record.row_id, "decode", reason, detail=detail[:300], requests=fetched.requests)

    kind = file_kind(fetched.data)
    if kind is None:
        return rejected("not-an-image", f"{len(fetched.data)} bytes beginning {fetched.data[:12]!r}")
    try:
        with Image.open(io.BytesIO(fetched.data), formats=[kind]) as image:
            if image.width * image.height > max_pixels:
                return rejected("too-many-pixels", f"{image.width} x {image.height}, more than {max_pixels} in all")
            image.load()
            if image.mode == "F":
                return rejected("unsupported-pixels", f"{kind} of mode {image.mode}")
            rgb = to_srgb(ImageOps.exif_transpose(image), background)
    except Image.DecompressionBombError as error:
        return rejected("too-many-pixels", str(error))
    except _DAMAGE as error:
        return rejected("damaged-image", f"{kind}: {error}")
    return Decoded(image=rgb, original_width=rgb.width, original_height=rgb.height)


def file_kind(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes are of, or None for all that is not on the list."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def to_srgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGB pixels in sRGB, whatever the mode: palettes, CMYK, 16-bit grey, transparency, an embedded ICC profile."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        rgb = _through_profile(rgba.convert("RGB"), profile)
        flat = Image.new("RGB", image.size, background)
        flat.paste(rgb, mask=alpha)
        return flat
    if image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    rgb = _through_profile(image, profile)
    return _without_metadata(rgb)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits: the high byte. Values of a 32-bit file that fit 8 bits are kept as they are."""
    values = np.asarray(image).astype(np.int64)
    if image.mode != "I" or values.max(initial=0) > 255:
        values = values >> 8
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # A profile that is broken, or of another colour space than the pixels, says nothing about them.
        return image.convert("RGB")
    assert converted is not None  # only an in-place conversion returns nothing
    return converted


def _without_metadata(image: Image.Image) -> Image.Image:
    """A copy that an encoder finds no profile, comment or EXIF on."""
    clean = image.copy()
    clean.info = {}
    return clean
