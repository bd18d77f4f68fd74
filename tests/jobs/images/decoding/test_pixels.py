"""Every format and mode against reference pixels."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin

from jobs.images.decoding import Limits, Refused, decode
from jobs.images.decoding.icc import is_srgb
from jobs.images.decoding.pixels import SPARE

BLUISH = (9, 8, 7)
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def differs(rgb: np.ndarray, image: Image.Image) -> float:
    expected = np.asarray(image.convert("RGB"), dtype=float)
    assert rgb.shape == expected.shape
    assert rgb.dtype == np.uint8
    return float(np.abs(rgb - expected).mean())


def tiff(values: Any, dtype: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.array(values, dtype), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_the_same_pixels(cat: Image.Image, saved: Any, format: str) -> None:
    assert differs(decode(saved(cat, format, **LOSSLESS[format])).rgb, cat) == 0


@pytest.mark.parametrize(("format", "most"), [("JPEG", 2), ("WEBP", 3), ("AVIF", 3), ("GIF", 9)])
def test_lossy_formats_give_nearly_the_same_pixels(cat: Image.Image, saved: Any, format: str, most: float) -> None:
    options = {"quality": 95} if format != "GIF" else {}
    assert differs(decode(saved(cat, format, **options)).rgb, cat) < most


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        (format, mode)
        for format, modes in {
            "PNG": "1 L P LA RGB RGBA",
            "TIFF": "1 L P LA PA RGB RGBA CMYK YCbCr LAB",
            "JPEG": "1 L RGB CMYK YCbCr",
            "WEBP": "L P LA RGB RGBA",
            "AVIF": "L P LA RGB RGBA",
            "BMP": "1 L P RGB RGBA",
            "GIF": "1 L P RGB RGBA",
        }.items()
        for mode in modes.split()
    ],
)
def test_every_mode_in_every_format_that_has_it(cat: Image.Image, saved: Any, format: str, mode: str) -> None:
    lossy = format in ("JPEG", "WEBP", "AVIF", "GIF")
    image = _lab(cat) if mode == "LAB" else cat.convert("LA" if mode == "PA" else mode).convert(mode)
    data = saved(image, format, **({"quality": 100} if lossy and format != "GIF" else {}))
    assert differs(decode(data).rgb, image) < (14 if lossy else 1)


def _lab(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(srgb, lab, "RGB", "LAB").apply(image)


@pytest.mark.parametrize(
    ("bits", "colour", "row", "clear", "expected"),
    [
        (16, 0, struct.pack(">2H", 0x1234, 0x1235), struct.pack(">H", 0x1234), [BLUISH, (0x12,) * 3]),
        (16, 2, struct.pack(">6H", 256, 512, 768, 1024, 2, 3), struct.pack(">3H", 256, 512, 768), [BLUISH, (4, 0, 0)]),
        (8, 0, bytes([3, 4]), struct.pack(">H", 3), [BLUISH, (4, 4, 4)]),
        (8, 2, bytes([3, 4, 5, 6, 7, 8]), struct.pack(">3H", 3, 4, 5), [BLUISH, (6, 7, 8)]),
        (4, 0, bytes([0x3F]), struct.pack(">H", 3), [BLUISH, (255,) * 3]),
        (2, 0, bytes([0b01110000]), struct.pack(">H", 1), [BLUISH, (255,) * 3]),
        (1, 0, bytes([0b10000000]), struct.pack(">H", 1), [BLUISH, (0, 0, 0)]),
        (4, 3, bytes([0x01]), b"\0", [BLUISH, (4, 5, 6)]),
    ],
)
def test_a_png_colour_may_be_transparent(
    png: Any, bits: int, colour: int, row: bytes, clear: bytes, expected: list[tuple[int, int, int]]
) -> None:
    palette = [(b"PLTE", bytes([1, 2, 3, 4, 5, 6]))] if colour == 3 else []
    data = png(2, 1, bits, colour, [row], *palette, (b"tRNS", clear))
    assert decode(data, background=BLUISH).rgb.tolist() == [[list(pixel) for pixel in expected]]


@pytest.mark.parametrize(
    ("colour", "row", "expected"),
    [
        (0, [0x1234, 0xFF00], [(0x12,) * 3, (255,) * 3]),
        (2, [0x1234, 0x2000, 0xFFFF, 1, 2, 3], [(0x12, 0x20, 255), (0, 0, 0)]),
        (4, [0x8000, 0xFFFF, 0x9000, 0], [(128,) * 3, BLUISH]),
        (6, [0x1234, 0x2000, 0xFFFF, 0xFFFF, 1, 2, 3, 0], [(0x12, 0x20, 255), BLUISH]),
    ],
)
def test_sixteen_bits_keep_their_high_byte(png: Any, colour: int, row: list[int], expected: list[Any]) -> None:
    data = png(2, 1, 16, colour, [struct.pack(f">{len(row)}H", *row)])
    assert decode(data, background=BLUISH).rgb.tolist() == [[list(pixel) for pixel in expected]]


def test_sixteen_bit_tiff() -> None:
    grey = [[0x1234, 0xFF00]]
    assert decode(tiff(grey, np.uint16)).rgb[0, :, 0].tolist() == [0x12, 255]
    assert decode(tiff(grey, np.uint16, byteorder=">")).rgb[0, :, 0].tolist() == [0x12, 255]
    assert decode(tiff(grey, np.uint16, bigtiff=True)).rgb[0, :, 0].tolist() == [0x12, 255]
    assert decode(tiff(grey, np.uint16, photometric="miniswhite")).rgb[0, :, 0].tolist() == [255 - 0x12, 0]
    rgb = tiff([[[0x1234, 0xFF00, 0x8000]]], np.uint16, photometric="rgb")
    assert decode(rgb).rgb.tolist() == [[[0x12, 255, 128]]]


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_tiff_alpha_is_laid_on_the_background(alpha: str) -> None:
    colour = [200, 100, 50, 128] if alpha == "unassalpha" else [100, 50, 25, 128]
    data = tiff([[colour]], np.uint8, photometric="rgb", extrasamples=[alpha])
    assert np.abs(decode(data, background=(0, 0, 0)).rgb[0, 0].astype(int) - [100, 50, 25]).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_samples_without_an_agreed_range_are_refused(dtype: Any) -> None:
    with pytest.raises(Refused, match="unsupported-pixels"):
        decode(tiff(np.zeros((2, 2)), dtype))


def test_sixteen_bit_planes_are_refused_rather_than_read_wrongly() -> None:
    data = tiff(np.full((3, 2, 2), 0x1234), np.uint16, photometric="rgb", planarconfig="separate")
    with pytest.raises(Refused, match="unsupported-pixels"):
        decode(data)


def test_cmyk_jpeg_is_inverted_where_adobe_says_so(saved: Any) -> None:
    with_marker = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100)
    assert decode(with_marker).rgb[8, 8].tolist() == [0, 255, 255]
    start = with_marker.index(b"\xff\xee")
    length = 2 + int.from_bytes(with_marker[start + 2 : start + 4], "big")
    without = with_marker[:start] + with_marker[start + length :]
    assert decode(without).rgb[8, 8].tolist() == [0, 0, 0]  # what was full cyan, black and all else left white


def test_ycck_jpeg_is_read(saved: Any) -> None:
    """Adobe's transform 2 says YCCK of the samples (155, 128, 128, 195): C = M = Y = 255 - 155, all stored inverted."""
    data = bytearray(saved(Image.new("CMYK", (16, 16), (100, 127, 127, 60)), "JPEG", quality=100, subsampling=0))
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = 2
    red, green, blue = (int(value) for value in decode(bytes(data)).rgb[8, 8])
    assert max(red, green, blue) - min(red, green, blue) <= 6
    assert abs(red - 100 * 195 / 255) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_turned_upright(cat: Image.Image, saved: Any, format: str, orientation: int) -> None:
    small = cat.resize((48, 32))
    turns = Image.Transpose
    undo = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
            6: turns.ROTATE_90, 7: turns.TRANSVERSE, 8: turns.ROTATE_270}  # fmt: skip
    stored = small.transpose(undo[orientation]) if orientation in undo else small
    if format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[274] = orientation
        data = saved(stored, format, tiffinfo=tags)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        options = {"quality": 95} if format in ("JPEG", "AVIF") else {"lossless": True}
        data = saved(stored, format, exif=exif, **(options if format != "PNG" else {}))
    pixels = decode(data)
    assert (pixels.original_width, pixels.original_height) == small.size
    assert differs(pixels.rgb, small) < 5


def test_a_scaled_jpeg_keeps_enough_pixels_and_looks_the_same(cat: Image.Image, saved: Any) -> None:
    big = cat.resize((1203, 801), Image.Resampling.LANCZOS)
    for mode in ("RGB", "L", "CMYK"):
        pixels = decode(saved(big.convert(mode), "JPEG"), min_size_px=(300, 200))
        height, width, _ = pixels.rgb.shape
        assert (width, height) == (602, 401)
        assert min(width / 300, height / 200) >= SPARE
        assert (pixels.original_width, pixels.original_height) == big.size
        reference = big.convert(mode).convert("RGB").resize((602, 401), Image.Resampling.LANCZOS)
        assert differs(pixels.rgb, reference) < 4
    assert decode(saved(big, "JPEG")).rgb.shape == (801, 1203, 3)
    assert decode(saved(big, "JPEG"), min_size_px=(500, 333)).rgb.shape == (801, 1203, 3)


def test_scaling_is_decided_in_the_upright_picture(cat: Image.Image, saved: Any) -> None:
    exif = Image.Exif()
    exif[274] = 6
    tall = saved(cat.resize((1200, 400)), "JPEG", exif=exif)
    assert decode(tall, min_size_px=(100, 300)).rgb.shape == (600, 200, 3)
    assert decode(tall, min_size_px=(300, 100)).rgb.shape == (1200, 400, 3)


def wide_profile() -> bytes:
    """sRGB's profile with red and green exchanged: any effect of it is easily seen."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = icc.index(b"rXYZ"), icc.index(b"gXYZ")
    icc[red : red + 4], icc[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(icc)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_embedded_profile_is_applied(saved: Any, format: str) -> None:
    data = saved(Image.new("RGB", (32, 32), (250, 10, 10)), format, icc_profile=wide_profile())
    red, green, _ = decode(data).rgb[16, 16].tolist()
    assert green > 200
    assert red < 60


def test_srgb_is_known_by_what_it_does(saved: Any) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_srgb(srgb)
    assert not is_srgb(wide_profile())
    assert not is_srgb(srgb[:200])
    gamma = bytearray(srgb)
    for place in range(len(gamma) - 4):
        if gamma[place : place + 4] == b"para":
            gamma[place + 8 : place + 10] = b"\0\0"
    assert not is_srgb(bytes(gamma))


def test_a_profile_of_another_colour_space_is_ignored(cat: Image.Image, saved: Any) -> None:
    data = saved(cat.convert("L"), "PNG", icc_profile=wide_profile())
    assert differs(decode(data).rgb, cat.convert("L")) == 0


def test_the_first_frame_counts(cat: Image.Image, saved: Any) -> None:
    small = cat.resize((64, 48))
    others = [Image.new("RGB", small.size, "red")] * 2
    for format in ("GIF", "WEBP", "AVIF", "TIFF", "PNG"):
        assert differs(decode(saved(small, format, save_all=True, append_images=others)).rgb, small) < 9


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"])
def test_a_file_that_is_cut_is_damaged(cat: Image.Image, saved: Any, format: str) -> None:
    data = saved(cat, format)
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(Refused) as refused:
            decode(data[: int(len(data) * part)])
        assert refused.value.reason in ("damaged-image", "unsupported-pixels")


def test_what_is_on_no_list_is_not_an_image() -> None:
    for data in (b"", b"<svg/>", b"%PDF-1.7", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"8BPS\0\1"):
        with pytest.raises(Refused, match="not-an-image"):
            decode(data, Limits())
