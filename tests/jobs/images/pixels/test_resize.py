"""Pixels at another size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.images.pixels.resize import framed, to_size


def whole(photo: Any) -> tuple[int, int, int, int]:
    return 0, 0, photo.shape[1], photo.shape[0]


def lanczos(photo: Any, size: tuple[int, int], box: Any = None) -> Any:
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS, box))


@pytest.mark.parametrize("size", [(300, 200), (180, 120), (113, 75), (64, 64), (31, 47), (450, 299)])
def test_lanczos_in_steps_is_near_the_reference(gallery: Any, size: Any, psnr: Any) -> None:
    fast, area = [], []
    for photo in gallery:
        reference = lanczos(photo, size)
        fast.append(psnr(to_size(photo, whole(photo), size, "lanczos", exact=False), reference))
        area.append(psnr(to_size(photo, whole(photo), size, "area"), reference))
    assert min(fast) > 34
    # Area averaging is the usual way.
    assert np.mean(fast) > np.mean(area)
    assert min(np.subtract(fast, area)) > -1


@pytest.mark.parametrize(
    "part", [(75, 0, 375, 300), (10.5, 20.5, 310.5, 290.5), (0, 0, 450.5, 299.5), (3.25, 1, 403.25, 299)]
)
def test_parts_may_begin_between_pixels(cat: Any, part: Any, psnr: Any) -> None:
    reference = lanczos(cat, (150, 150), part)
    assert psnr(to_size(cat, part, (150, 150), "lanczos", exact=False), reference) > 38
    assert (to_size(cat, part, (150, 150), "lanczos", exact=True) == reference).all()


def test_one_side_may_shrink_far_more_than_the_other(cat: Any, psnr: Any) -> None:
    wide = np.tile(cat, (1, 9, 1))
    reference = lanczos(wide, (100, 280))
    assert psnr(to_size(wide, whole(wide), (100, 280), "lanczos", exact=False), reference) > 40


@pytest.mark.parametrize("name", ["lanczos", "bicubic", "bilinear", "nearest"])
def test_exact_filters_are_pillows(cat: Any, name: Any) -> None:
    for size in ((100, 80), (600, 500)):
        reference = np.asarray(Image.fromarray(cat).resize(size, Image.Resampling[name.upper()]))
        assert (to_size(cat, whole(cat), size, name) == reference).all()


def test_area_is_the_mean_of_what_each_pixel_covers(cat: Any) -> None:
    means = cat[:300, :450].reshape(100, 3, 150, 3, 3).mean((1, 3))
    assert np.abs(to_size(cat, (0, 0, 450, 300), (150, 100), "area") - means).max() <= 0.5 + 1e-6


def test_the_size_that_is_there_is_kept_pixel_for_pixel(cat: Any) -> None:
    assert (to_size(cat, (75, 0, 375, 300), (300, 300), "lanczos") == cat[:, 75:375]).all()


def test_a_plain_surface_stays_plain() -> None:
    plain = np.full((301, 403, 3), (3, 128, 252), np.uint8)
    for size in ((100, 75), (77, 33), (251, 290)):
        assert (to_size(plain, whole(plain), size, "lanczos", exact=False) == (3, 128, 252)).all()


def test_the_border_surrounds_the_middle(cat: Any) -> None:
    canvas = framed(cat[:, :300], (303, 310), (1, 2, 3))
    assert canvas.shape == (310, 303, 3)
    assert (canvas[5:305, 1:301] == cat[:, :300]).all()
    assert (canvas[:5] == (1, 2, 3)).all() and (canvas[305:] == (1, 2, 3)).all()
    assert (canvas[:, :1] == (1, 2, 3)).all() and (canvas[:, 301:] == (1, 2, 3)).all()
