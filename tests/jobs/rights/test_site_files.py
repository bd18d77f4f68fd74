"""ai.txt and tdmrep.json: what they say of a URL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.rights.aitxt import AiTxt
from jobs.rights.patterns import Target, target_of
from jobs.rights.tdmrep import TdmRep


def target(path: str) -> Target:
    found = target_of("https://example.org" + path)
    assert found is not None
    return found


IMAGES_OFF = "User-Agent: *\nDisallow: *.jpg\nDisallow: *.png\nAllow: *.txt\nAllow: /\n"
ALL_OFF = "# Spawning AI\nUser-Agent: *\nDisallow: *.txt\nDisallow: *.jpg\nDisallow: /\nDisallow: *\n"
IMAGES_ON = "User-Agent: *\nAllow: *.jpg\nDisallow: *.txt\nDisallow: /\nDisallow: *\n"


@pytest.mark.parametrize(
    ("text", "path", "subtype", "refused"),
    [
        ("", "/a.jpg", "", False),
        (IMAGES_OFF, "/a.jpg", "", True),
        (IMAGES_OFF, "/A.JPG?size=2", "", True),
        (IMAGES_OFF, "/a.webp", "", False),
        (IMAGES_OFF, "/a.jpg/b", "", False),
        (IMAGES_OFF, "/image?id=7", "", False),
        (IMAGES_OFF, "/image?id=7", "jpeg", True),  # now we know
        (IMAGES_OFF, "/a.jpeg", "jpeg", True),
        (IMAGES_OFF, "/image?id=7", "webp", False),
        (ALL_OFF, "/a.jpg", "", True),
        (ALL_OFF, "/a.avif", "", True),
        (IMAGES_ON, "/a.jpg", "", False),
        (IMAGES_ON, "/a.png", "", True),
        ("User-Agent: GPTBot\nDisallow: /", "/a.jpg", "", False),
        ("User-Agent: licet\nAllow: /\nUser-Agent: *\nDisallow: /", "/a.jpg", "", False),
        ("User-Agent: *\nDisallow: /art/", "/art/a.jpg", "", True),
        ("User-Agent: *\nDisallow: /art/", "/a.jpg", "", False),
        ("User-Agent: *\nDisallow: image/*", "/anything", "", True),
        ("User-Agent: *\nDisallow: image/jpeg", "/a.jpg", "", True),
        ("User-Agent: *\nDisallow: image/jpeg", "/a.png", "", False),
        ("User-Agent: *\nDisallow: image/jpeg", "/anything", "jpeg", True),
        ("User-Agent: *\nDisallow: video/*", "/anything", "", False),
        ("User-Agent: *\nDisallow: .jpg", "/a.jpg", "", True),
        ("<!doctype html>\nUser-Agent: *\nDisallow: /", "/a.jpg", "", False),
    ],
)
def test_ai_txt_goes_by_extension_type_and_path(text: str, path: str, subtype: str, refused: bool) -> None:
    assert (AiTxt(text, "licet").refusal(target(path), subtype) is not None) is refused


def entry(location: Any, reservation: Any, **more: Any) -> dict[str, Any]:
    return {"location": location, "tdm-reservation": reservation, **more}


@pytest.mark.parametrize(
    ("entries", "path", "reserved"),
    [
        ([entry("/", 1)], "/x/y.jpg", True),
        ([entry("/", 0)], "/x/y.jpg", False),
        ([entry("/x/", 1)], "/z/y.jpg", None),
        ([entry("/x/images/*.jpg", 0), entry("/x/", 1)], "/x/images/y.jpg", False),  # the first in sequence
        ([entry("/", 1), entry("/x/", 0)], "/x/y.jpg", True),
        ([entry("/x/y.jpg$", 1)], "/x/y.jpg2", None),
        ([entry("/X/", 1)], "/x/y.jpg", None),
        ([entry("*.jpg", 1)], "/x/y.jpg", True),
        ([entry("x/", 1)], "/x/y.jpg", True),
        ([entry("https://example.org/x/", 1)], "/x/y.jpg", True),
        ([entry("/path/foo-%24", 1)], "/path/foo-$", True),
        ([entry("/", "1")], "/x", True),
        ([entry("/", 1.0)], "/x", None),
        ([entry("/", True)], "/x", None),
        ([entry("/", 2), entry("/", 1)], "/x", True),  # an error is no rule
        ([{"location": "/"}, {"tdm-reservation": 1}, None, 7, []], "/x", None),
        ([entry(7, 1), entry("", 1), entry(None, 1), entry("/", [1]), entry("/", {"a": 1})], "/x", None),
        (entry("/", 1), "/x", True),  # brackets forgotten
        ("a string", "/x", None),
        (None, "/x", None),
    ],
)
def test_the_first_rule_of_tdmrep_json_that_covers_the_path_counts(
    entries: Any, path: str, reserved: bool | None
) -> None:
    rule = TdmRep(json.dumps(entries)).rule(target(path))
    assert (rule.reserved if rule else None) is reserved


@pytest.mark.parametrize(
    "text", ["", "<html>", "[" * 100_000, '{"a":' * 5000, "[1e999]", '[{"location":"\\ud800","tdm-reservation":1}]']
)
def test_what_is_no_tdmrep_json_reserves_nothing(text: str) -> None:
    rule = TdmRep(text).rule(target("/x"))
    assert rule is None
