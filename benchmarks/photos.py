"""JPEG files of 100 to 400 KB, derived from the licensed photos at hand: what the ingest benchmarks serve.

    corpus(folder, 256) -> [Path, …]        made once, the same bytes each time

A crop of a photo is turned, enlarged to 0.8 to 1.6 megapixels and given a little sensor noise, because an enlarged
crop without noise is smoother, smaller and faster to decode than a camera's file.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from examples.photos.table import PHOTOS, UNKNOWN, photo_bytes

MIN_BYTES, MAX_BYTES = 100_000, 400_000
MIN_SIDE_PX = 300  # smaller photos would be enlarged to a blur
NOISE = 3.0  # standard deviation, of 255


def corpus(folder: Path, n: int) -> list[Path]:
    """Paths of `n` files in `folder`, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:05d}.jpg" for i in range(n)]
    missing = [(i, path) for i, path in enumerate(paths) if not path.exists()]
    if missing:
        originals = _originals()
        for i, path in missing:
            partial = path.with_suffix(".partial")
            partial.write_bytes(_file(originals, np.random.default_rng([7, i])))
            partial.replace(path)
    return paths


def _originals() -> list[Image.Image]:
    opened = [Image.open(io.BytesIO(photo_bytes(photo))) for photo in PHOTOS if photo.licence != UNKNOWN]
    return [image.convert("RGB") for image in opened if image.mode == "RGB" and min(image.size) >= MIN_SIDE_PX]


def _file(originals: list[Image.Image], rng: np.random.Generator) -> bytes:
    photo = originals[rng.integers(len(originals))]
    width, height = (int(side * rng.uniform(0.7, 0.95)) for side in photo.size)
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    n_pixels = rng.uniform(0.8e6, 1.6e6)
    scale = (n_pixels / (width * height)) ** 0.5
    size = round(width * scale), round(height * scale)
    crop = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(crop).astype(np.float32) + rng.normal(0, NOISE, (size[1], size[0], 1)).astype(np.float32)
    noisy = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for quality in (85, 75, 65, 50, 95):
        buffer = io.BytesIO()
        noisy.save(buffer, "JPEG", quality=quality)
        if MIN_BYTES <= buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    raise AssertionError(f"no quality brings this crop to {MIN_BYTES}..{MAX_BYTES} bytes")
