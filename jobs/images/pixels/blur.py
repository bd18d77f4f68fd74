"""Boxes made unrecognisable: what is inside becomes a few averages that nobody can turn back. Pure.

boxes = parse_boxes('[[0.1, 0.2, 0.3, 0.5]]')         or raises Refused(boxes-malformed)
blur(rgb, boxes, margin) -> rgb
"""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.images.decoding import Refused

Box = tuple[float, float, float, float]
"""left, top, right, bottom as fractions of the upright image."""

MOST_BOXES = 1_000
_CELLS = 4
"""Averages along the longer side of a box: a face of 4 x 4 cells is nobody's."""
_OVERSHOOT = 0.001
"""How far beyond the image a detector's rounding may put an edge."""


def parse_boxes(text: str) -> tuple[Box, ...]:
    """Boxes from JSON. Raises `Refused`: an image whose boxes cannot be read would be stored with its faces."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise Refused("boxes-malformed", f"not JSON: {error}") from error
    if not isinstance(found, list) or len(found) > MOST_BOXES:
        raise Refused("boxes-malformed", f"expected a list of at most {MOST_BOXES} boxes, found {text[:100]!r}")
    return tuple(_box(value) for value in found)


def _box(value: object) -> Box:
    numbers = isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if not isinstance(value, list) or len(value) != 4 or not numbers:
        raise Refused("boxes-malformed", f"expected [left, top, right, bottom], found {str(value)[:100]}")
    left, top, right, bottom = value
    inside = all(-_OVERSHOOT <= edge <= 1 + _OVERSHOOT for edge in value)
    if not inside or left >= right or top >= bottom:
        raise Refused("boxes-malformed", f"expected fractions of the image, left < right, top < bottom, found {value}")
    return float(left), float(top), float(right), float(bottom)


def blur(rgb: NDArray[np.uint8], boxes: tuple[Box, ...], margin: float) -> NDArray[np.uint8]:
    """A copy of (H, W, 3) with each box, grown by `margin` of its sides in each direction, reduced to 4 x 4 averages.

    The averages are blended into one another, so that no hard grid is left to learn from.
    """
    result: NDArray[np.uint8] = rgb.copy()
    height, width = rgb.shape[:2]
    for left, top, right, bottom in boxes:
        grow_x, grow_y = (right - left) * margin, (bottom - top) * margin
        x0, x1 = _pixels(left - grow_x, right + grow_x, width)
        y0, y1 = _pixels(top - grow_y, bottom + grow_y, height)
        result[y0:y1, x0:x1] = _averages(result[y0:y1, x0:x1])
    return result


def _pixels(low: float, high: float, n: int) -> tuple[int, int]:
    """Every pixel that a range of fractions touches; at least one."""
    first = min(max(0, math.floor(low * n)), n - 1)
    return first, min(max(first + 1, math.ceil(high * n)), n)


def _averages(region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = region.shape[:2]
    cell = max(height, width) / _CELLS
    cells = (max(1, round(width / cell)), max(1, round(height / cell)))
    few = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
