"""64-bit perceptual hash of a picture: equal for copies, near for re-encoded, resized or brightened ones.

As Zauner (2010) and the `imagehash` library define it: grey values (ITU-R 601), 32 x 32 pixels, the two-dimensional
DCT-II, its 8 x 8 lowest frequencies, each bit whether a coefficient lies above their median; row by row, the first bit
highest. Here the cosines are whole numbers: every machine finds the same bits, and a plain surface has one hash.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIXELS, _FREQUENCIES = 32, 8
_FIRST_PX = 64
"""Larger images are averaged to this size before Lanczos: a tenth of the time, and hardly a bit changes."""

_COSINES = np.round(
    4096 * np.cos(np.pi / (2 * _PIXELS) * np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_PIXELS) + 1))
).astype(np.int64)


def phash(rgb: NDArray[np.uint8]) -> str:
    """Hash of the whole of (H, W, 3) uint8 RGB, as 16 hexadecimal digits."""
    while min(rgb.shape[:2]) >= 4 * _FIRST_PX:
        rows, columns = rgb.shape[0] // 2, rgb.shape[1] // 2
        halved = cv2.resize(rgb[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        rgb = np.asarray(halved, dtype=np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    first = (min(grey.shape[1], _FIRST_PX), min(grey.shape[0], _FIRST_PX))
    grey = cv2.resize(grey, first, interpolation=cv2.INTER_AREA)
    tiny = Image.fromarray(np.asarray(grey, dtype=np.uint8)).resize((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
    low = _COSINES @ np.asarray(tiny, dtype=np.int64) @ _COSINES.T
    ordered = np.sort(low, axis=None)
    return np.packbits(2 * low > ordered[31] + ordered[32]).tobytes().hex()
