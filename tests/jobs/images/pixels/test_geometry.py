"""Which size an image is brought to, and which part of it is kept."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.images.decoding import Refused
from jobs.images.options import ImageOptions
from jobs.images.pixels.geometry import Geometry, buckets, geometry, nearest_bucket

WHOLE = (0, 0, 451, 300)


@pytest.mark.parametrize(
    ("mode", "upscale", "size_px", "box", "filled", "stored"),
    [
        ("no", True, 64, WHOLE, (451, 300), (451, 300)),
        ("keep_ratio", False, 150, WHOLE, (226, 150), (226, 150)),
        ("keep_ratio", False, 600, WHOLE, (451, 300), (451, 300)),
        ("keep_ratio", True, 600, WHOLE, (902, 600), (902, 600)),
        ("keep_ratio_largest", False, 200, WHOLE, (200, 133), (200, 133)),
        ("keep_ratio_largest", False, 600, WHOLE, (451, 300), (451, 300)),
        ("keep_ratio_largest", True, 902, WHOLE, (902, 600), (902, 600)),
        ("center_crop", False, 128, (75, 0, 375, 300), (128, 128), (128, 128)),
        ("center_crop", False, 600, (75, 0, 375, 300), (300, 300), (300, 300)),
        ("center_crop", True, 600, (75, 0, 375, 300), (600, 600), (600, 600)),
        ("border", False, 200, WHOLE, (200, 133), (200, 200)),
        ("border", False, 600, WHOLE, (451, 300), (600, 600)),
        ("border", True, 902, WHOLE, (902, 600), (902, 902)),
        ("stretch", False, 128, WHOLE, (128, 128), (128, 128)),
        ("stretch", False, 600, WHOLE, (300, 300), (300, 300)),
        ("stretch", True, 600, WHOLE, (600, 600), (600, 600)),
    ],
)
def test_each_mode(mode: Any, upscale: bool, size_px: int, box: Any, filled: Any, stored: Any) -> None:
    options = ImageOptions(size_px=size_px, resize=mode, upscale=upscale)
    assert geometry(451, 300, options) == Geometry(box, filled, stored)


def test_a_portrait_is_a_landscape_on_its_side() -> None:
    for mode in ("keep_ratio", "keep_ratio_largest", "center_crop", "border", "stretch", "buckets"):
        options = ImageOptions(size_px=128, resize=mode, bucket_step_px=32)
        assert geometry(300, 452, options).stored == geometry(452, 300, options).stored[::-1]


def test_no_side_is_ever_zero() -> None:
    for mode in ("keep_ratio_largest", "border"):
        assert geometry(10_000, 1, ImageOptions(size_px=64, resize=mode)).filled == (64, 1)


def test_buckets_keep_to_the_area_the_step_and_the_ratio() -> None:
    sizes = buckets(512, 64, 2.0)
    assert (512, 512) in sizes and (768, 320) not in sizes  # 2.4 to 1
    assert (384, 640) in sizes and (640, 384) in sizes
    for width, height in sizes:
        assert width % 64 == height % 64 == 0
        assert width * height <= 512 * 512
        assert max(width, height) <= 2 * min(width, height)
    assert set(sizes) == {size[::-1] for size in sizes}
    assert {(1024, 1024), (832, 1216), (1344, 768), (896, 1152)} <= set(buckets(1024, 64, 4.0))  # known from SDXL
    assert buckets(500, 64, 1.0) == ((448, 448),)


def test_the_nearest_bucket_is_nearest_in_proportion() -> None:
    among = buckets(512, 64, 2.0)
    assert nearest_bucket((4000, 4000), among) == (512, 512)
    assert nearest_bucket((3000, 2000), among) == (640, 384)
    assert nearest_bucket((2000, 3000), among) == (384, 640)
    assert nearest_bucket((9000, 1000), among) == nearest_bucket((2, 1), among)


def test_a_bucket_is_covered_and_cropped_in_the_middle() -> None:
    place = geometry(1600, 1000, ImageOptions(size_px=512, resize="buckets"))
    assert place.filled == place.stored == (640, 384)
    left, top, right, bottom = place.box
    assert (right - left) / (bottom - top) == pytest.approx(place.stored[0] / place.stored[1], rel=0.002)
    assert abs(left - (1600 - right)) <= 1 and abs(top - (1000 - bottom)) <= 1
    assert left == 0 or top == 0


def test_small_images_get_a_bucket_of_a_smaller_area_unless_they_may_be_enlarged() -> None:
    options = ImageOptions(size_px=512, resize="buckets")
    width, height = geometry(451, 300, options).stored
    assert (width, height) == (384, 256)
    assert geometry(451, 300, ImageOptions(size_px=512, resize="buckets", upscale=True)).stored == (640, 384)
    with pytest.raises(Refused) as refused:
        geometry(300, 63, options)
    assert refused.value.reason == "too-small"
