"""Pixels to another size. Pure.

Pillow's filters are the reference. Where the caller allows it, Lanczos is reached in steps that cost an eighth:
halving while at least 1.3 times the size is left, the Lanczos low-pass, then cubic interpolation. Photos come out
nearer to the reference than by area averaging (benchmarks/transform.py prints both).
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.images.options import RGB, Interpolation
from jobs.images.pixels.geometry import Size

Pixels8 = NDArray[np.uint8]
"""(H, W, 3), RGB."""
Part = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the array; need not be whole."""

_SPARE = 1.3
"""How many times the wanted size an image keeps before the last, careful step."""
_LOBES = 3
_UNITS = 128
"""Filter weights are multiples of 1/128: sums of two passes over 8 bits are then exact in float32, on any processor."""
_PILLOW = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}

cv2.setNumThreads(1)
cv2.ocl.setUseOpenCL(False)


def to_size(rgb: Pixels8, part: Part, size: Size, interpolation: Interpolation, exact: bool = True) -> Pixels8:
    """A part of an image at `size` (width, height). `exact` asks for Pillow's own Lanczos."""
    left, top, right, bottom = math.floor(part[0]), math.floor(part[1]), math.ceil(part[2]), math.ceil(part[3])
    if (right - left, bottom - top) == size:
        return rgb[top:bottom, left:right]
    if interpolation == "area":
        return _u8(cv2.resize(rgb[top:bottom, left:right], size, interpolation=cv2.INTER_AREA))
    if interpolation == "lanczos" and not exact and right - left > size[0] and bottom - top > size[1]:
        return _lanczos_in_steps(rgb, part, size)
    return np.asarray(Image.fromarray(rgb).resize(size, _PILLOW[interpolation], part))


def framed(rgb: Pixels8, size: Size, border: RGB) -> Pixels8:
    """In the middle of `size`, on the border's colour; contiguous. An odd pixel goes to the right and to the bottom."""
    height, width = rgb.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(rgb)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    canvas = np.empty((size[1], size[0], 3), np.uint8)
    canvas[:] = border
    canvas[top : top + height, left : left + width] = rgb
    return canvas


def _lanczos_in_steps(rgb: Pixels8, part: Part, size: Size) -> Pixels8:
    while (by := (_step(part[2] - part[0], size[0]), _step(part[3] - part[1], size[1]))) != (1, 1):
        rgb, part = _averaged(rgb, *by), (part[0] / by[0], part[1] / by[1], part[2] / by[0], part[3] / by[1])
    x, width, aside = _whole(part[0], part[2], rgb.shape[1])
    y, height, below = _whole(part[1], part[3], rgb.shape[0])
    across, down = _low_pass(width / size[0], aside), _low_pass(height / size[1], below)
    left, top = max(0, x - len(across) // 2), max(0, y - len(down) // 2)
    reached = rgb[top : y + height + len(down) // 2, left : x + width + len(across) // 2]
    if below:  # cv2's separable filter is four times as slow where the second kernel is not symmetric
        smooth = cv2.filter2D(cv2.filter2D(reached, -1, across[np.newaxis]), -1, down[:, np.newaxis])
    else:
        smooth = cv2.sepFilter2D(reached, -1, across, down)
    inside = smooth[y - top : y - top + height, x - left : x - left + width]
    return _u8(cv2.resize(inside, size, interpolation=cv2.INTER_CUBIC))


def _whole(low: float, high: float, n: int) -> tuple[int, int, float]:
    """First whole pixel and number of pixels of a range, and how far its middle lies beyond theirs."""
    length = min(n, round(high - low))
    first = min(max(0, round((low + high - length) / 2)), n - length)
    return first, length, (low + high - length) / 2 - first


def _step(length: float, wanted: int) -> int:
    """2 where a side can be halved and `_SPARE` times the wanted length is left, else 1."""
    return 2 if length >= 2 * _SPARE * wanted else 1


def _averaged(rgb: Pixels8, across: int, down: int) -> Pixels8:
    """Averages of 2 x 2, 2 x 1 or 1 x 2. An odd last pixel counts twice: cv2 is slow between whole numbers."""
    height, width = rgb.shape[:2]
    if height % down or width % across:
        rgb = _u8(cv2.copyMakeBorder(rgb, 0, height % down, 0, width % across, cv2.BORDER_REPLICATE))
    return _u8(cv2.resize(rgb, (rgb.shape[1] // across, rgb.shape[0] // down), interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=4096)
def _low_pass(factor: float, shift: float) -> NDArray[np.float32]:
    """Lanczos kernel for downscaling by `factor`, at whole pixels of the source, moved by `shift` (Turkowski 1990)."""
    half = max(1, math.ceil(_LOBES * factor + abs(shift)) - 1)
    x = np.arange(-half, half + 1) - shift
    kernel = np.sinc(x / factor) * np.sinc(x / (_LOBES * factor)) * (np.abs(x) < _LOBES * factor)
    units = np.round(kernel / kernel.sum() * _UNITS)
    units[half] += _UNITS - units.sum()
    return np.asarray(units / _UNITS, dtype=np.float32)


def _u8(pixels: object) -> Pixels8:
    return np.asarray(pixels, dtype=np.uint8)
