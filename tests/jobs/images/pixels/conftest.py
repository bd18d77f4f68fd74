"""Real photos, and files made from them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data as photos
from sklearn.datasets import load_sample_images

Photo = NDArray[np.uint8]


@pytest.fixture(scope="session")
def cat() -> Photo:
    """451 x 300."""
    return np.asarray(photos.chelsea())


@pytest.fixture(scope="session")
def gallery() -> list[Photo]:
    """Six different photos."""
    return [photos.astronaut(), photos.coffee(), photos.chelsea(), photos.rocket(), *load_sample_images().images]


@pytest.fixture(scope="session")
def saved() -> Callable[..., bytes]:
    """(pixels, Pillow's format, **options) -> bytes."""

    def save(pixels: Photo, format: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format, **options)
        return buffer.getvalue()

    return save


@pytest.fixture(scope="session")
def opened() -> Callable[[bytes], Photo]:
    """Bytes -> RGB pixels."""

    def open_(data: bytes) -> Photo:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    return open_


@pytest.fixture(scope="session")
def psnr() -> Callable[[Photo, Photo], float]:
    """Decibels of one picture against another of the same size."""

    def decibels(one: Photo, other: Photo) -> float:
        error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
        return float(10 * np.log10(255**2 / max(error, 1e-9)))

    return decibels
