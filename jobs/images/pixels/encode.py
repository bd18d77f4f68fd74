"""Pixels to the bytes of a file without metadata. The same pixels and options always give the same bytes."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from jobs.images.decoding import Refused
from jobs.images.options import ImageFormat, ImageOptions

LONGEST_SIDE_PX: dict[ImageFormat, int] = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383, "avif": 65_535}
"""What the formats' encoders can hold."""


def check_sides(size: tuple[int, int], image_format: ImageFormat) -> None:
    """Raise `Refused` for a size that the format cannot hold."""
    if max(size) > LONGEST_SIDE_PX[image_format]:
        raise Refused("too-large-for-format", f"{size[0]} x {size[1]} as {image_format}")


def encode(rgb: NDArray[np.uint8], options: ImageOptions) -> bytes:
    """Encode (H, W, 3) uint8 RGB."""
    if options.format == "jpg":
        pixels = np.ascontiguousarray(rgb)
        return bytes(simplejpeg.encode_jpeg(pixels, options.quality, "RGB", options.subsampling))
    image, buffer = Image.fromarray(rgb), io.BytesIO()
    if options.format == "png":
        image.save(buffer, "PNG", compress_level=options.png_compression)
    elif options.format == "webp":
        image.save(
            buffer, "WEBP", quality=options.quality, lossless=options.webp_lossless, method=options.webp_method
        )  # fmt: skip
    else:
        subsampling = ":".join(options.subsampling)
        # More threads split an image into other tiles, hence other bytes.
        image.save(
            buffer, "AVIF", quality=options.quality, subsampling=subsampling, speed=options.avif_speed,
            codec="aom", max_threads=1, autotiling=False,
        )  # fmt: skip
    return buffer.getvalue()
