"""What is known, and refused, before a decoder runs."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image, ImageCms

from jobs.images.decoding import Header, Limits, Refused, decode, read_header


@pytest.fixture
def small(cat: Image.Image) -> Image.Image:
    return cat.resize((40, 30))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"])
def test_size_and_kind(small: Image.Image, saved: Any, format: str) -> None:
    header = read_header(saved(small, format))
    assert (header.kind, header.width, header.height) == (format.lower(), 40, 30)
    assert (header.frames, header.orientation, header.has_alpha, header.has_icc) == (1, 1, False, False)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_alpha_profile_and_exif(small: Image.Image, saved: Any, format: str, lossless: bool) -> None:
    small = small.convert("RGBA")
    small.putalpha(100)
    exif, icc = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[271] = "a camera"
    options = {"lossless": lossless} if format == "WEBP" else {}
    header = read_header(saved(small, format, exif=exif, icc_profile=icc, **options))
    assert header.has_alpha
    assert header.icc == icc
    found = Image.Exif()
    found.load(header.exif)
    assert found[271] == "a camera"


def test_jpeg_metadata_in_several_segments(small: Image.Image, saved: Any) -> None:
    exif = Image.Exif()
    exif[274] = 7
    profile = bytes(range(256)) * 500
    header = read_header(saved(small, "JPEG", exif=exif, icc_profile=profile))
    assert (header.orientation, header.icc) == (7, profile)
    assert header.upright_size == (30, 40)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "AVIF", "TIFF", "PNG"])
def test_frames_are_counted_and_limited(small: Image.Image, saved: Any, format: str) -> None:
    others = [Image.new("RGB", small.size, colour) for colour in ("red", "green", "blue", "white")]
    data = saved(small, format, save_all=True, append_images=others)
    assert read_header(data).frames == 5
    with pytest.raises(Refused, match="too-many-frames"):
        decode(data, Limits(max_frames=4))


def bombs(saved: Any, png: Any) -> dict[str, bytes]:
    """Small files whose headers promise 50,000 x 50,000 pixels."""
    image = Image.new("RGB", (64, 64))
    size = 50_000
    avif = bytearray(saved(image, "AVIF"))
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", size, size)
    jpeg = bytearray(saved(image, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", size, size)
    gif = bytearray(saved(image, "GIF"))
    gif[6:10] = struct.pack("<HH", size, size)
    hidden = bytearray(saved(image, "GIF"))
    at = hidden.index(b"\x2c", 13)
    hidden[at + 5 : at + 9] = struct.pack("<HH", size, size)
    bmp = bytearray(saved(image, "BMP"))
    bmp[18:26] = struct.pack("<ii", size, -size)
    tiff = bytearray(saved(image, "TIFF"))
    for tag in (256, 257):
        at = tiff.index(struct.pack("<HHI", tag, 4, 1))
        tiff[at + 8 : at + 12] = struct.pack("<I", size)
    webp = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + (size - 1).to_bytes(3, "little") * 2
    return {
        "png": png(size, size, 8, 2, [b"\0"]),
        "avif": bytes(avif), "jpeg": bytes(jpeg), "gif": bytes(gif), "gif-frame": bytes(hidden), "bmp": bytes(bmp),
        "tiff": bytes(tiff), "webp": webp,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "avif", "jpeg", "gif", "gif-frame", "bmp", "tiff", "webp"])
def test_a_bomb_is_refused_by_its_header(saved: Any, png: Any, kind: str) -> None:
    data = bombs(saved, png)[kind]
    with pytest.raises(Refused) as refused:
        decode(data)
    assert refused.value.reason == "too-many-pixels"
    with pytest.raises(Refused) as refused:
        decode(data, Limits(max_pixels=10**10, max_side_px=10_000))
    assert refused.value.reason == "side-too-long"


def test_a_ring_of_tiff_directories_is_damaged(small: Image.Image, saved: Any) -> None:
    data = bytearray(saved(small, "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    with pytest.raises(Refused, match="does not end"):
        read_header(bytes(data))


def test_limits_are_inclusive() -> None:
    header = Header("png", 100, 50, frames=3)
    header.check(Limits(max_pixels=5000, max_side_px=100, max_frames=3))
    for limits in (Limits(max_pixels=4999), Limits(max_side_px=99), Limits(max_frames=2)):
        with pytest.raises(Refused):
            header.check(limits)
