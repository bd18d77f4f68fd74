"""Pixels to the size that is stored, and their encoding. Pure.

    resize(decoded, …) -> Encoded

This stage knows pixels. It does not know where they came from or which shard they go to.
"""

from __future__ import annotations

import io

import imagehash
from PIL import Image

from jobs.images.options import ImageFormat, ResizeMode
from jobs.images.records import Decoded, Encoded

_PILLOW_NAME = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def resize(
    decoded: Decoded,
    size_px: int,
    mode: ResizeMode = "center_crop",
    upscale: bool = False,
    image_format: ImageFormat = "jpg",
    quality: int = 95,
) -> Encoded:
    """Bring an image to its stored size and encode it; its perceptual hash is of the whole, before cropping."""
    phash = str(imagehash.phash(decoded.image))
    image = to_size(decoded.image, size_px, mode, upscale)
    payload = encode(image, image_format, quality)
    return Encoded(payload, image_format, image.width, image.height, phash)


def to_size(image: Image.Image, size_px: int, mode: ResizeMode, upscale: bool) -> Image.Image:
    """`center_crop`: the short side becomes `size_px` and the middle square is kept. `keep_ratio`: without the crop.
    `no`: as it is. Without `upscale` a smaller image keeps its size (`center_crop` still makes it square).

    Lanczos, over the area that is kept.
    """
    if mode == "no":
        return image
    short = min(image.size)
    target = size_px if upscale else min(size_px, short)
    if mode == "center_crop":
        left, top = (image.width - short) // 2, (image.height - short) // 2
        return image.resize((target, target), Image.Resampling.LANCZOS, (left, top, left + short, top + short))
    size = (max(1, round(image.width * target / short)), max(1, round(image.height * target / short)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    """Encode RGB pixels without metadata; `quality` (1 to 100) is for jpg and webp, png loses nothing."""
    options = {} if image_format == "png" else {"quality": quality}
    buffer = io.BytesIO()
    image.save(buffer, _PILLOW_NAME[image_format], **options)
    return buffer.getvalue()
