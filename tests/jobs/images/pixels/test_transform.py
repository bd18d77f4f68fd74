"""A file in, what is stored out: the whole of it, in this process and in a confined one."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from jobs.images import decoding
from jobs.images.decoding import header as headers
from jobs.images.options import ImageOptions
from jobs.images.pixels import REASONS, transform
from jobs.images.pixels.phash import phash
from jobs.images.pixels.transform import worker
from licet.errors import UsageError

SIZES = {
    "no": (451, 300), "keep_ratio": (96, 64), "keep_ratio_largest": (64, 43), "center_crop": (64, 64),
    "border": (64, 64), "stretch": (64, 64), "buckets": (80, 48),
}  # fmt: skip
MODES = tuple(SIZES)
FACE = "[[0.4, 0.3, 0.6, 0.7]]"


def stored(data: bytes, boxes: str = "[]", **options: Any) -> dict[str, Any]:
    result = transform(data, {"boxes": boxes}, ImageOptions(**{"size_px": 64, "bucket_step_px": 16, **options}))
    assert "reason" not in result, result
    return result


def refused(data: bytes, boxes: str = "[]", **options: Any) -> str:
    result = transform(data, {"boxes": boxes}, ImageOptions(**options))
    assert set(result) == {"reason", "detail"}
    return str(result["reason"])


def turned(photo: Any, orientation: int, saved: Any, format: str = "PNG", **options: Any) -> bytes:
    """A file whose pixels are not upright, and whose EXIF says so."""
    undo = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
        7: "TRANSVERSE", 8: "ROTATE_270",
    }[orientation]  # fmt: skip
    image = Image.fromarray(photo)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    laid = image.transpose(Image.Transpose[undo]) if undo else image
    return bytes(saved(np.asarray(laid), format, exif=exif, **options))


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_gives_its_size_and_says_it(cat: Any, saved: Any, opened: Any, mode: Any) -> None:
    result = stored(saved(cat), resize=mode, format="png")
    assert (result["width"], result["height"]) == SIZES[mode]
    assert opened(result["payload"]).shape == (*SIZES[mode][::-1], 3)
    assert (result["original_width"], result["original_height"]) == (451, 300)
    assert result["phash"] == phash(cat)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_before_every_mode(cat: Any, saved: Any, mode: Any, orientation: int) -> None:
    upright = stored(saved(cat), resize=mode, boxes=FACE)
    assert stored(turned(cat, orientation, saved), resize=mode, boxes=FACE) == upright


@pytest.mark.parametrize("orientation", [3, 6])
def test_scaled_decoding_keeps_a_turned_photo_in_place(
    gallery: Any, saved: Any, opened: Any, psnr: Any, orientation: int
) -> None:
    photo = gallery[-1][:427]
    plain, laid = (turned(photo, n, saved, "JPEG", quality=98, subsampling=0) for n in (1, orientation))
    one, other = (
        opened(stored(data, format="png", boxes=FACE, resize="keep_ratio")["payload"]) for data in (plain, laid)
    )
    assert psnr(one, other) > 33


@pytest.mark.parametrize("mode", ["center_crop", "keep_ratio", "border", "stretch"])
def test_fast_decoding_loses_little_and_full_decoding_nothing(
    gallery: Any, saved: Any, opened: Any, psnr: Any, mode: Any
) -> None:
    for photo in gallery:
        data = saved(photo, "JPEG", quality=92)
        fast, full = (
            opened(stored(data, format="png", resize=mode, decoding=decoding, border="#000000")["payload"])
            for decoding in ("fast", "full")
        )
        assert psnr(fast, full) > 31
        if mode == "stretch":
            assert (full == np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.LANCZOS))).all()


def test_tiny_files_are_no_exception(cat: Any, saved: Any, opened: Any) -> None:
    for width, height in [(1, 1), (3, 2), (12, 12), (13, 97), (24, 25), (449, 9)]:
        data = saved(cat[:height, :width], "JPEG")
        for mode in MODES[:-1]:
            result = stored(data, size_px=1, resize=mode)
            assert opened(result["payload"]).shape == (result["height"], result["width"], 3)


def test_interpolation_is_chosen_by_direction(cat: Any, saved: Any, opened: Any) -> None:
    down = {
        n: opened(stored(saved(cat), format="png", downscale_interpolation=n)["payload"]) for n in ("nearest", "area")
    }
    assert {tuple(p) for p in down["nearest"].reshape(-1, 3)} <= {tuple(p) for p in cat.reshape(-1, 3)}
    assert not (down["nearest"] == down["area"]).all()
    same = [stored(saved(cat), upscale=True, upscale_interpolation=n)["payload"] for n in ("nearest", "bicubic")]
    assert same[0] == same[1]  # nothing is enlarged here
    up = stored(
        saved(cat), size_px=600, upscale=True, upscale_interpolation="nearest", resize="keep_ratio", format="png"
    )
    assert (opened(up["payload"]) == cat.repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp", "avif"])
def test_every_format_holds_the_picture_and_no_metadata(
    cat: Any, saved: Any, opened: Any, psnr: Any, image_format: Any
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kamera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = stored(saved(cat, exif=exif, icc_profile=profile), format=image_format, size_px=300)
    assert result["payload_format"] == image_format
    image = Image.open(io.BytesIO(result["payload"]))
    assert not image.getexif() and "icc_profile" not in image.info
    assert psnr(opened(result["payload"]), cat[:, 75:375]) > 34


def test_quality_and_the_formats_own_options_are_used(cat: Any, saved: Any, opened: Any) -> None:
    data = saved(cat)
    for image_format in ("jpg", "webp", "avif"):
        sizes = [len(stored(data, format=image_format, size_px=256, quality=q)["payload"]) for q in (30, 95)]
        assert sizes[0] < sizes[1]
    for image_format in ("jpg", "avif"):
        sizes = [len(stored(data, format=image_format, size_px=256, subsampling=s)["payload"]) for s in ("420", "444")]
        assert sizes[0] < sizes[1]
    small, large = (stored(data, format="png", size_px=256, png_compression=n)["payload"] for n in (9, 0))
    assert len(small) < len(large) and (opened(small) == opened(large)).all()
    lossless = stored(data, format="webp", size_px=300, webp_lossless=True)["payload"]
    assert (opened(lossless) == cat[:, 75:375]).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_size_px": 301}, "too-small"),
        ({"max_area_px": 451 * 300 - 1}, "too-large-area"),
        ({"max_aspect_ratio": 1.5}, "aspect-ratio"),
        ({"max_pixels": 451 * 300 - 1}, "too-many-pixels"),
        ({"max_side_px": 450}, "side-too-long"),
        ({"resize": "buckets", "bucket_step_px": 512}, "too-small"),
    ],
)
def test_the_header_alone_refuses(cat: Any, saved: Any, options: Any, reason: str) -> None:
    assert refused(saved(cat, "JPEG")[:2000], **options) == reason  # the pixels themselves are not there
    assert reason in REASONS | decoding.REASONS
    loosened = {
        name: value + 1 if isinstance(value, int) else 1.6 for name, value in options.items() if name[:3] == "max"
    }
    if loosened:
        assert "payload" in transform(saved(cat), {}, ImageOptions(**loosened))


def test_what_would_grow_beyond_measure_is_refused(saved: Any) -> None:
    sliver = saved(np.zeros((2, 60_000, 3), np.uint8))
    assert refused(sliver, resize="keep_ratio", size_px=512, upscale=True) == "aspect-ratio"
    assert refused(sliver, resize="no", format="webp") == "too-large-for-format"


def test_boxes_are_blurred_before_the_crop(cat: Any, saved: Any, opened: Any) -> None:
    data = saved(cat)
    plain = opened(stored(data, format="png", size_px=300)["payload"]).astype(int)
    blurred = opened(stored(data, FACE, format="png", size_px=300, blur_margin=0.0)["payload"]).astype(int)
    changed = (plain != blurred).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (rows[0], rows[-1]) == (90, 209)
    assert (columns[0], columns[-1]) == (180 - 75, 270 - 75)  # 0.4 x 451 = 180.4, 0.6 x 451 = 270.6
    assert stored(data, FACE)["phash"] == stored(data)["phash"]
    assert refused(data, "[[10, 10, 50, 50]]") == "boxes-malformed"


def gps() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kamera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


def test_exif_is_kept_only_when_asked_for_and_gps_by_its_own_word(cat: Any, saved: Any) -> None:
    data = saved(cat, "JPEG", exif=gps())
    assert stored(data)["exif"] == "{}"
    assert json.loads(stored(data, keep_exif=True)["exif"]) == {"Make": "Kamera"}
    assert json.loads(stored(data, keep_exif=True, keep_gps=True)["exif"]) == {"GPSLatitudeRef": "N", "Make": "Kamera"}


@pytest.mark.parametrize(
    ("kind", "image_format"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("AVIF", "avif")]
)
def test_originals_are_kept_byte_for_byte(cat: Any, saved: Any, kind: str, image_format: Any) -> None:
    data = saved(cat, kind)
    kept = {"reencode": "if_changed", "format": image_format, "size_px": 512}
    for mode in ("no", "keep_ratio", "keep_ratio_largest"):
        result = stored(data, resize=mode, **kept)
        assert result["payload"] == data
        assert (result["width"], result["height"], result["payload_format"]) == (451, 300, image_format)
    always = {**kept, "reencode": "always", "png_compression": 9}
    assert stored(data, resize="no", **always)["payload"] != data
    assert stored(data, resize="center_crop", **kept)["payload"] != data
    assert stored(data, FACE, resize="no", **kept)["payload"] != data
    other = "png" if image_format == "jpg" else "jpg"
    assert stored(data, resize="no", **{**kept, "format": other})["payload"] != data


def test_originals_that_hold_more_than_the_picture_are_not_kept(cat: Any, saved: Any) -> None:
    kept: dict[str, Any] = {"reencode": "if_changed", "resize": "no"}
    srgb, other = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB", "LAB"))
    make = Image.Exif()
    make[ExifTags.Base.Make] = "Kamera"
    thumbnail = saved(cat[::4, ::4], "JPEG")
    for fine in (saved(cat, "JPEG", icc_profile=srgb), saved(cat, "JPEG", exif=make), saved(cat[..., 0], "JPEG")):
        assert stored(fine, **kept)["payload"] == fine
    place = saved(cat, "JPEG", exif=gps())
    assert stored(place, **kept, keep_gps=True)["payload"] == place
    spoken = b'<x:xmpmeta exif:GPSLatitude="48,8N"/>'
    for wrong in (
        place,
        turned(cat, 6, saved, "JPEG"),
        saved(cat, "JPEG", icc_profile=other),
        saved(cat, "JPEG", xmp=spoken),
        saved(cat, "JPEG", comment=thumbnail),
        saved(cat, "JPEG") + thumbnail,
    ):
        assert stored(wrong, **kept)["payload"] != wrong
    png: dict[str, Any] = {**kept, "format": "png"}
    clear = np.dstack([cat, np.full(cat.shape[:2], 200, np.uint8)])
    for wrong in (saved(clear), saved(cat) + b"PK\3\4", saved(np.zeros((9, 9), np.uint16))):
        assert stored(wrong, **png)["payload"] != wrong


def test_a_damaged_original_is_not_kept(cat: Any, saved: Any) -> None:
    whole = saved(cat, "PNG")
    assert refused(whole[: len(whole) // 2], reencode="if_changed", resize="no", format="png") == "damaged-image"
    assert refused(b"<html>") == "not-an-image"


def test_the_same_input_gives_the_same_bytes_in_every_thread(gallery: Any, saved: Any) -> None:
    files = [saved(photo, "JPEG", quality=90) for photo in gallery]
    every = [ImageOptions(size_px=128, format=f) for f in ("jpg", "png", "webp", "avif")]  # type: ignore[arg-type]
    work = [(data, options) for data in files for options in every]

    def digest(item: tuple[bytes, ImageOptions]) -> str:
        return hashlib.sha256(transform(item[0], {"boxes": FACE}, item[1])["payload"]).hexdigest()

    alone = [digest(item) for item in work]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(digest, work)) == alone


def test_a_confined_process_gives_the_same_answer(cat: Any, saved: Any) -> None:
    from jobs.images.decoding.isolation import Isolated

    options, data = ImageOptions(size_px=64, resize="border", keep_exif=True), saved(cat, "JPEG", exif=gps())
    with Isolated("jobs.images.pixels.transform:worker", asdict(options)) as isolated:
        assert isolated.run(data, {"boxes": FACE}) == transform(data, {"boxes": FACE}, options)
        assert isolated.run(data, {"boxes": "3"}) == transform(data, {"boxes": "3"}, options)


def test_options_cross_a_process_boundary(cat: Any, saved: Any) -> None:
    options = ImageOptions(size_px=32, resize="buckets", bucket_step_px=8, max_aspect_ratio=3.5)
    spec = msgpack.unpackb(msgpack.packb(asdict(options)))
    assert ImageOptions(**spec) == options
    assert worker(spec)(saved(cat), {}) == transform(saved(cat), {}, options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_px": 0}, {"quality": 0}, {"quality": 101}, {"background": "white"}, {"border": "#12"},
        {"png_compression": 10}, {"webp_method": 7}, {"avif_speed": -1}, {"blur_margin": -0.1}, {"min_size_px": -1},
        {"max_aspect_ratio": 0.5}, {"bucket_step_px": 0}, {"bucket_max_ratio": 0.9}, {"max_pixels": 0},
        {"max_frames": 0}, {"resize": "buckets", "size_px": 32},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=list(wrong)[-1]):
        replace(ImageOptions(), **wrong)


def test_reasons_are_of_this_folder_alone() -> None:
    assert not set(REASONS) & set(decoding.REASONS)
    assert headers.Limits() == headers.Limits(
        ImageOptions().max_pixels, ImageOptions().max_side_px, ImageOptions().max_frames
    )
