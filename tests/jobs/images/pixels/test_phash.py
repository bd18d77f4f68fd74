"""The perceptual hash against the library that defines it, and on copies of real photos."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jobs.images.pixels.phash import phash


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_it_agrees_with_imagehash(gallery: Any) -> None:
    for photo in gallery:
        assert bits_apart(phash(photo), str(imagehash.phash(Image.fromarray(photo)))) <= 2


def smaller(photo: Any, factor: float) -> Any:
    size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))


def encoded(photo: Any, format: str) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format, quality=50)
    return np.asarray(Image.open(buffer).convert("RGB"))


COPIES: dict[str, Any] = {
    "jpeg of quality 50": lambda photo: encoded(photo, "JPEG"),
    "webp of quality 50": lambda photo: encoded(photo, "WEBP"),
    "half its size": lambda photo: smaller(photo, 0.5),
    "a thumbnail": lambda photo: smaller(photo, 100 / min(photo.shape[:2])),
    "twice its size": lambda photo: smaller(photo, 2),
    "darker": lambda photo: np.asarray(ImageEnhance.Brightness(Image.fromarray(photo)).enhance(0.8)),
    "less contrast": lambda photo: np.asarray(ImageEnhance.Contrast(Image.fromarray(photo)).enhance(0.8)),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_near(gallery: Any, how: str) -> None:
    for photo in gallery:
        assert bits_apart(phash(photo), phash(COPIES[how](photo))) <= 6


def test_different_photos_are_far_apart(gallery: Any) -> None:
    assert min(bits_apart(phash(a), phash(b)) for a, b in combinations(gallery, 2)) > 16


def test_a_plain_surface_has_one_hash() -> None:
    hashes = {phash(np.full((h, w, 3), v, np.uint8)) for h, w, v in ((1, 1, 9), (64, 64, 255), (300, 700, 17))}
    assert hashes == {"8000000000000000"}
