"""The pure stages, on real photos in every mode that image files come in."""

from __future__ import annotations

import io
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as photos

from jobs.images.decode import decode
from jobs.images.records import REASONS, Decoded, Fetched
from jobs.images.resize import encode, resize, to_size
from licet.records import Rejected, SourceRecord


def fetched(data: bytes) -> Fetched:
    return Fetched(SourceRecord("r1", "photos", "http://localhost/x"), data, requests=1)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    result = decode(fetched(data), 10_000_000, background)
    assert isinstance(result, Decoded), result
    assert result.image.mode == "RGB"
    assert result.image.info == {}
    return result.image


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(photos.chelsea())


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other.convert("RGB"), dtype=float)).mean())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_listed_format_is_decoded(cat: Image.Image, format: str) -> None:
    assert difference(decoded(saved(cat, format)), cat) < 8


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_each_mode_becomes_rgb(cat: Image.Image, mode: str) -> None:
    image = cat.convert(mode)
    format = {"CMYK": "TIFF"}.get(mode, "PNG")
    assert difference(decoded(saved(image, format)), image.convert("RGB")) < 1


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    ramp = np.arange(256, dtype=np.uint16).repeat(4).reshape(32, 32) * 257
    data = saved(Image.fromarray(ramp), "PNG")
    assert (np.asarray(decoded(data))[..., 0] == ramp >> 8).all()


def test_transparency_is_laid_on_the_background(cat: Image.Image) -> None:
    image = cat.convert("RGBA")
    image.putalpha(Image.new("L", cat.size, 0))
    assert np.asarray(decoded(saved(image, "PNG"), (10, 20, 30))).reshape(-1, 3).mean(0).tolist() == [10, 20, 30]
    palette = cat.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert decoded(saved(palette, "GIF"), (1, 2, 3)).getpixel((0, 0)) == (1, 2, 3)


def test_exif_orientation_is_applied(cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = decoded(saved(cat.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif))
    assert turned.size == cat.size
    assert difference(turned, cat) == 0


def test_a_colour_profile_is_converted_to_srgb(cat: Image.Image) -> None:
    linear = ImageCms.createProfile("LAB")
    wrong_space = ImageCms.ImageCmsProfile(linear).tobytes()
    assert difference(decoded(saved(cat, "PNG", icc_profile=wrong_space)), cat) == 0
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(decoded(saved(cat, "PNG", icc_profile=same)), cat) < 1
    assert difference(decoded(saved(cat, "PNG", icc_profile=b"nonsense")), cat) == 0


def test_what_is_not_an_image_is_rejected() -> None:
    for data in (b"", b"<html>", b"%PDF-1.7", b"\x00" * 100):
        result = decode(fetched(data), 1000)
        assert isinstance(result, Rejected)
        assert result.reason == "not-an-image"


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_damage_is_rejected_and_never_raised(cat: Image.Image) -> None:
    rng = np.random.default_rng(0)
    reasons = set()
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = saved(cat, format)
        assert isinstance(decode(fetched(whole[: len(whole) // 3]), 10_000_000), Rejected), format
        for _ in range(20):
            damaged = bytearray(whole)
            for place in rng.integers(4, min(len(damaged), 400), 8):
                damaged[place] = rng.integers(256)
            result = decode(fetched(bytes(damaged)), 10_000_000)
            if isinstance(result, Rejected):
                reasons.add(result.reason)
    assert "damaged-image" in reasons
    assert reasons <= set(REASONS)


def test_too_many_pixels_are_refused_by_the_header_alone(cat: Image.Image) -> None:
    header = saved(cat, "JPEG")[:2000]  # the pixels themselves are not there
    result = decode(fetched(header), cat.width * cat.height - 1)
    assert isinstance(result, Rejected)
    assert result.reason == "too-many-pixels"
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    result = decode(fetched(bomb), 10**12)
    assert isinstance(result, Rejected)
    assert result.reason == "too-many-pixels"


def test_floating_point_pixels_are_rejected() -> None:
    result = decode(fetched(saved(Image.new("F", (8, 8)), "TIFF")), 1000)
    assert isinstance(result, Rejected)
    assert result.reason == "unsupported-pixels"


@pytest.mark.parametrize(
    ("mode", "upscale", "size_px", "expected"),
    [
        ("center_crop", False, 128, (128, 128)),
        ("center_crop", False, 1000, (300, 300)),
        ("center_crop", True, 600, (600, 600)),
        ("keep_ratio", False, 150, (226, 150)),
        ("keep_ratio", False, 1000, (451, 300)),
        ("keep_ratio", True, 600, (902, 600)),
        ("no", True, 64, (451, 300)),
    ],
)
def test_resize_modes(cat: Image.Image, mode: Any, upscale: bool, size_px: int, expected: tuple[int, int]) -> None:
    assert to_size(cat, size_px, mode, upscale).size == expected


def test_the_crop_is_the_middle(cat: Image.Image) -> None:
    left = (cat.width - cat.height) // 2
    middle = cat.crop((left, 0, left + cat.height, cat.height))
    assert difference(to_size(cat, 300, "center_crop", False), middle) == 0


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
def test_the_same_pixels_give_the_same_bytes(cat: Image.Image, image_format: Any) -> None:
    result = decode(fetched(saved(cat, "PNG")), 10_000_000)
    assert isinstance(result, Decoded)
    first, second = (resize(result, 64, image_format=image_format) for _ in range(2))
    assert first == second
    assert (first.width, first.height, first.payload_format) == (64, 64, image_format)
    assert Image.open(io.BytesIO(first.payload)).size == (64, 64)
    assert len(encode(cat, "jpg", 20)) < len(encode(cat, "jpg", 95))


def test_the_perceptual_hash_is_near_for_a_copy_and_far_for_another_photo(cat: Image.Image) -> None:
    def phash(image: Image.Image) -> imagehash.ImageHash:
        result = decode(fetched(saved(image, "JPEG", quality=60)), 10_000_000)
        assert isinstance(result, Decoded)
        return imagehash.hex_to_hash(resize(result, 32).phash)

    assert phash(cat) - phash(cat.resize((200, 133))) <= 6
    assert phash(cat) - phash(Image.fromarray(photos.coffee())) > 20
