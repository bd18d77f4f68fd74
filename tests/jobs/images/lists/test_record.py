"""One row of a list becomes one record, with what its source says, or with its problem."""

from __future__ import annotations

import hashlib
import json

import pytest

from jobs.images.lists.formats import Malformed, Row
from jobs.images.lists.record import DERIVED_FIELDS, RECORD_FIELDS, to_record
from licet.records import SourceRecord
from licet.sources import Source


def record(values: dict[str, object], **said: object) -> dict[str, str]:
    base = {"id": "s", "title": "A title", "kind": "images", "location": "x", "format": "csv"}
    return to_record(Row(7, {"url": "http://a/1", **values}), Source(**{**base, **said}))  # type: ignore[arg-type]


def test_a_record_has_the_fields_of_the_contract() -> None:
    assert {"row_id", *RECORD_FIELDS} == set(SourceRecord.__dataclass_fields__)
    assert set(record({})) == {*RECORD_FIELDS, *DERIVED_FIELDS}
    assert set(to_record(Malformed(3, "\ud800"), Source("s", "t", "images", "x", "csv"))) == set(record({}))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a/x.jpg", ""),
        (" https://a:8443/x.jpg?y=1 ", ""),
        ("", "url-missing"),
        (None, "url-missing"),
        (float("nan"), "url-missing"),
        ("a/x.jpg", "url-malformed"),
        ("http://u:p@a/x.jpg", "url-credentials"),
        ({"nested": 1}, "row-malformed"),
        ("http://a/\x00", "row-malformed"),
        (b"http://a/\xff", "row-not-utf8"),
        (b"http://a/x", ""),
    ],
)
def test_a_row_without_a_usable_url_says_why(url: object, problem: str) -> None:
    assert record({"url": url})["problem"] == problem


def test_the_url_stays_as_it_was_and_the_canonical_one_stands_beside_it() -> None:
    found = record({"url": " HTTP://A/b/../x#y "})
    assert (found["url"], found["canonical_url"]) == ("HTTP://A/b/../x#y", "http://a/x")
    other = record({"url": "http://a/x", "caption": "\xff\ud800"}, columns={"caption": "caption"})
    assert (other["problem"], other["canonical_url"]) == ("row-not-utf8", "http://a/x")  # by its URL alone


def test_a_row_takes_from_its_source_what_it_does_not_say() -> None:
    given = {"licence": "CC-BY-4.0", "creator": "Ada", "languages": ["fr"]}
    columns = {"licence": "terms", "caption": "text"}
    plain = record({"terms": "", "text": 7}, columns=columns, **given)
    assert (plain["licence"], plain["creator"], plain["language"], plain["caption"]) == ("CC-BY-4.0", "Ada", "fr", "7")
    assert plain["attribution"] == "Ada (CC-BY-4.0)"
    assert record({"terms": "MIT"}, columns=columns, **given)["licence"] == "MIT"
    nobody = record({}, licence="CC-BY-4.0")
    assert nobody["attribution"] == ""  # a credit without a name would hide that nobody is named


MD5, SHA256, SHA512 = (hashlib.new(name, b"x").hexdigest() for name in ("md5", "sha256", "sha512"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"expected_hash": f"SHA256:{SHA256.upper()}"}, f"sha256:{SHA256}"),
        ({"expected_hash": SHA512}, f"sha512:{SHA512}"),
        ({"md5": MD5}, f"md5:{MD5}"),
        ({"md5": bytes.fromhex(MD5)}, f"md5:{MD5}"),
        ({"md5": MD5, "sha256": SHA256}, f"sha256:{SHA256}"),
        ({"md5": MD5, "sha256": None}, f"md5:{MD5}"),
        ({"md5": SHA256}, None),
        ({"md5": f"sha256:{SHA256}"}, None),
        ({"expected_hash": "crc32:00000000"}, None),
        ({"expected_hash": "z" * 32}, None),
    ],
)
def test_hashes_that_a_list_expects(values: dict[str, object], expected: str | None) -> None:
    found = record(values, columns={name: name for name in values})
    assert found["expected_hash"] == (expected or "")
    assert found["problem"] == ("" if expected else "row-malformed")


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ("[[0, 0.25, 0.5, 1]]", "[[0.0,0.25,0.5,1.0]]"),
        ([[0, 0, 1, 1], (0.1, 0.1, 0.2, 0.2)], "[[0.0,0.0,1.0,1.0],[0.1,0.1,0.2,0.2]]"),
        ("", "[]"),
        (None, "[]"),
        ("[[0, 0, 64, 64]]", "divide pixels by its size"),
        ([[0.5, 0, 0.25, 1]], "left < right"),
        ([[0, 0, float("nan"), 1]], "left < right"),
        ("[[0, 0, 1]]", "[left, top, right, bottom]"),
        ("[0, 0, 1, 1]", "expected a list of boxes"),
        ("{", "not JSON"),
    ],
)
def test_boxes_are_fractions_or_the_row_is_refused(boxes: object, expected: str) -> None:
    found = record({"faces": boxes}, columns={"boxes": "faces"})
    if expected.startswith("[[") or expected == "[]":
        assert (found["boxes"], found["problem"]) == (expected, "")
    else:
        assert found["problem"] == "row-malformed"
        assert expected in found["problem_detail"]


def test_further_columns_travel_as_json() -> None:
    values = {"caption": "c", "score": 0.5, "tags": ["a", {"$x": 1}], "none": None}
    everything = record(values, columns={"caption": "caption"}, extra_columns=["*"])
    assert json.loads(everything["extra"]) == {"score": 0.5, "tags": ["a", {"$object": {"$x": 1}}], "none": None}
    assert record(values, extra_columns=["score", "gone"])["extra"] == '{"score":0.5}'
    assert record(values)["extra"] == "{}"
