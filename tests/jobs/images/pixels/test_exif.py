"""EXIF as JSON."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from jobs.images.pixels.exif import MOST_BYTES, exif_json, has_gps


def block(gps: bool = False, **tags: Any) -> bytes:
    """An EXIF block in its TIFF structure."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kamera GmbH\0"
    exif[ExifTags.Base.Orientation] = 6
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.FNumber] = IFDRational(28, 10)
    inner[ExifTags.Base.ExposureTime] = IFDRational(1, 0)
    inner[ExifTags.Base.ISOSpeedRatings] = 200
    inner[ExifTags.Base.ExifVersion] = b"0232"
    inner[ExifTags.Base.MakerNote] = b"serial 12345"
    inner[ExifTags.Base.UserComment] = b"\0\xff" * 50
    inner[ExifTags.Base.LensSpecification] = (24.0, 70.0, 2.8, 4.0)
    for name, value in tags.items():
        inner[ExifTags.Base[name]] = value
    if gps:
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
        place[ExifTags.GPS.GPSLatitudeRef] = "N"
        place[ExifTags.GPS.GPSLatitude] = (IFDRational(48), IFDRational(8), IFDRational(3, 2))
    return exif.tobytes()[6:]


def test_tags_are_named_and_plain() -> None:
    assert json.loads(exif_json(block())) == {
        "Make": "Kamera GmbH",
        "FNumber": 2.8,
        "ISOSpeedRatings": 200,
        "ExifVersion": "0232",
        "LensSpecification": [24.0, 70.0, 2.8, 4.0],
    }


def test_gps_is_there_only_when_asked_for() -> None:
    data = block(gps=True)
    assert has_gps(data) and not has_gps(block()) and not has_gps(b"")
    assert not [name for name in json.loads(exif_json(data)) if "GPS" in name]
    kept = json.loads(exif_json(data, keep_gps=True))
    assert (kept["GPSLatitudeRef"], kept["GPSLatitude"]) == ("N", [48.0, 8.0, 1.5])


def test_the_json_is_bounded_and_steady() -> None:
    names = ("LensMake", "LensModel", "CameraOwnerName", "BodySerialNumber", "SubsecTime", "SpectralSensitivity")
    data = block(**dict.fromkeys(names, "u" * 5_000), ImageUniqueID="x" * 5_000)
    text = exif_json(data)
    assert len(text) <= MOST_BYTES
    assert json.loads(text)["CameraOwnerName"] == "u" * 500
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text == exif_json(data)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_broken_blocks_say_nothing_and_never_raise() -> None:
    assert exif_json(b"") == exif_json(b"nonsense") == exif_json(b"II*\0") == "{}"
    whole, draw = block(gps=True), random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(6):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        assert isinstance(json.loads(exif_json(bytes(damaged[: draw.randrange(8, len(damaged))]))), dict)
        has_gps(bytes(damaged))
