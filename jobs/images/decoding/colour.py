"""A picture in any mode and colour space to RGB in sRGB. Knows Pillow's modes, not files."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageCms

from jobs.images.decoding.header import Header
from jobs.images.decoding.icc import is_srgb
from jobs.images.decoding.reasons import Refused

_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_GREY_WITH_ALPHA = {"La": "LA", "LA": "LA"}
_PROFILED = frozenset({"L", "RGB", "CMYK"})
"""Modes that a profile can be of. Others become RGB first."""


def to_srgb(image: Image.Image, header: Header, background: tuple[int, int, int]) -> Image.Image:
    """An RGB image in sRGB: palettes, CMYK, 16-bit grey, Lab, transparency and an embedded ICC profile resolved.

    Raises `Refused` for samples without an agreed range.
    """
    if image.mode in ("F", "I"):
        raise Refused("unsupported-pixels", f"{header.kind} of mode {image.mode}")
    if "transparency" in image.info:
        image = _with_alpha(image, header)
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if header.inverted:
        image = ImageChops.invert(image)
    if image.mode not in _WITH_ALPHA:
        return _through_profile(image, header.icc)
    seen = _as(image, _GREY_WITH_ALPHA.get(image.mode, "RGBA"))
    flat = Image.new("RGB", image.size, background)
    flat.paste(
        _through_profile(seen.convert("RGB" if seen.mode == "RGBA" else "L"), header.icc), mask=seen.getchannel("A")
    )
    return flat


def _with_alpha(image: Image.Image, header: Header) -> Image.Image:
    """Resolve the one colour, or the palette's entries, that are transparent.

    PNG's tRNS counts in the file's samples, which Pillow has brought to 8 bits, except for 16-bit grey.
    """
    clear = image.info["transparency"]
    if image.mode.startswith("I;16"):
        alpha = Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8))
        return Image.merge("LA", (_eight_bits(image), alpha))
    if header.kind == "png" and header.bits == 16 and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif header.kind == "png" and header.bits < 8 and image.mode == "L":
        image.info["transparency"] = clear * 255 // ((1 << header.bits) - 1)
    return image.convert("RGBA")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits: the high byte, as Pillow does for 16-bit RGB."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in _PROFILED:
        image = image.convert("RGB")
    transform = _transform(icc, image.mode) if icc else None
    return _as(image, "RGB") if transform is None else transform.apply(image)


def _as(image: Image.Image, mode: str) -> Image.Image:
    """The image in `mode`. Pillow's `convert` copies even where there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


@lru_cache(maxsize=64)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where there is nothing to do, or where the profile is not one of `mode`.

    A profile that is broken, or of another colour space than the pixels, says nothing about them.
    """
    if is_srgb(icc):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
