"""Boxes made unrecognisable."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from skimage import data as photos

from jobs.images.decoding import Refused
from jobs.images.pixels.blur import blur, parse_boxes

FACE = (0.33, 0.05, 0.56, 0.38)  # of the astronaut


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", "3", "null", '"[]"', "[1,2,3,4]", "[[0,0,1]]", "[[0,0,1,1,1]]", "[[0,0,1,null]]",
        '[["0","0","1","1"]]',
        "[[0,0,true,true]]", "[[0.5,0,0.5,1]]", "[[0.6,0,0.5,1]]", "[[0,0.9,1,0.2]]", "[[0,0,NaN,1]]",
        "[[0,0,Infinity,1]]",
        "[[10,20,200,220]]", "[[-0.2,0,0.5,0.5]]", "[[0,0,1" + "0" * 400 + ",1]]", "[" * 100_000,
        json.dumps([[0, 0, 1, 1]] * 1001),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_boxes(text)
    assert refused.value.reason == "boxes-malformed"


def test_boxes_are_read_and_none_is_no_fault() -> None:
    assert parse_boxes("[]") == parse_boxes("") == ()
    assert parse_boxes("[[0, 0.25, 1.0000002, 1]]") == ((0.0, 0.25, 1.0000002, 1.0),)


def detail(pixels: Any) -> float:
    """Mean difference between neighbours."""
    values = pixels.astype(float)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())


def test_a_face_keeps_a_few_averages_and_the_rest_stays() -> None:
    photo = photos.astronaut()
    blurred = blur(photo, (FACE,), margin=0.0)
    x0, y0, x1, y1 = (int(edge * 512) for edge in FACE)
    inside = (slice(y0 + 1, y1 - 1), slice(x0 + 1, x1 - 1))
    assert detail(blurred[inside]) < 0.15 * detail(photo[inside])
    # Blends of four rows explain all rows that are left.
    assert np.linalg.matrix_rank(blurred[inside][..., 0].astype(float), tol=60.0) <= 4
    outside = np.ones(photo.shape[:2], bool)
    outside[y0 : y1 + 1, x0 : x1 + 1] = False
    assert (blurred[outside] == photo[outside]).all()


def test_what_is_blurred_does_not_depend_on_fine_detail() -> None:
    photo = photos.astronaut()
    rng = np.random.default_rng(0)
    noise = rng.choice([-20, 20], (512, 512, 1))
    noisy = (photo.clip(20, 235) + noise).astype(np.uint8)
    box = ((0.25, 0.25, 0.75, 0.75),)
    middle = (slice(130, 380), slice(130, 380))
    difference = np.abs(
        blur(noisy, box, 0)[middle].astype(int) - blur(photo.clip(20, 235).astype(np.uint8), box, 0)[middle]
    )
    assert difference.max() <= 2


def test_boxes_grow_by_the_margin_and_stop_at_the_edge(cat: Any) -> None:
    narrow, wide = (blur(cat, ((0.4, 0.4, 0.6, 0.6),), margin) for margin in (0.0, 0.5))
    changed = [(result != cat).any(2).sum() for result in (narrow, wide)]
    assert 3.5 < changed[1] / changed[0] < 4.5
    assert blur(cat, ((0.0, 0.0, 1.0, 1.0),), 0.5).shape == cat.shape


def test_the_smallest_box_hides_at_least_one_pixel(cat: Any) -> None:
    assert blur(cat, ((0.9999999, 0.9999999, 1.0, 1.0),), 0.0).shape == cat.shape
    checkered = np.indices((10, 10)).sum(0)[..., None].repeat(3, 2).astype(np.uint8) % 2 * 255
    assert (blur(checkered, ((0.31, 0.3, 0.59, 0.6),), 0.0)[3:6, 3:6] != checkered[3:6, 3:6]).any()
