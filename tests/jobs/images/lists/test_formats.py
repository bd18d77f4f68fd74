"""Lists in every format, encoding and compression, and the lines in them that are not rows."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from jobs.images.lists import formats
from jobs.images.lists.formats import Listed, Malformed, Row, header_of, text_rows
from jobs.images.lists.lines import LONGEST_LINE, lines_of, sniff
from jobs.images.lists.places import Place
from jobs.images.lists.record import to_record
from licet.sources import ListFormat, Source

ROWS = [{"link": f"http://localhost/{n}.jpg", "by": "Zoë", "terms": "MIT"} for n in range(3)]


def source(**values: object) -> Source:
    base = {"id": "s", "title": "A title", "kind": "images", "location": "x", "format": "csv"}
    return Source(**{**base, **values})


def written(format: ListFormat) -> str:
    if format in ("csv", "tsv"):
        separator = "," if format == "csv" else "\t"
        return "\r\n".join([separator.join(ROWS[0]), *[separator.join(row.values()) for row in ROWS]])
    if format == "json":
        return json.dumps(ROWS, indent=1, ensure_ascii=False)
    if format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in ROWS)
    return "".join(row["link"] + "\n" for row in ROWS)


def rows(content: bytes, format: ListFormat) -> list[Listed]:
    text = sniff(io.BytesIO(content))
    header = header_of(io.BytesIO(content), format, text) if format in ("csv", "tsv") else []
    return list(text_rows(io.BytesIO(content), format, text, header))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl", "txt"])
def test_each_format_and_encoding_gives_the_same_rows(format: ListFormat, encoding: str) -> None:
    expected = ROWS if format != "txt" else [{"url": row["link"]} for row in ROWS]
    found = rows(written(format).encode(encoding), format)
    assert [row.values for row in found if isinstance(row, Row)] == expected == [row.values for row in found]  # type: ignore[union-attr]
    first = {"csv": 2, "tsv": 2, "json": 1, "jsonl": 1, "txt": 1}[format]
    step = 2 if format == "jsonl" else 1
    assert [row.line for row in found] == [first + n * step for n in range(3)]


def arrow(codec: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    return pack


@pytest.mark.parametrize(
    ("extension", "pack"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", arrow("zstd")),
        ("lz4", arrow("lz4")),
    ],
)
def test_compressed_lists_are_read_and_cut_off_ones_are_not(
    tmp_path: Path, extension: str, pack: Callable[[bytes], bytes]
) -> None:
    content = b"".join(b"http://localhost/%d.jpg\n" % n for n in range(20_000))
    place = Place(fsspec.filesystem("file"), str(tmp_path / f"list.txt.{extension}"))
    for packed in (pack(content), pack(content[:999]) + pack(content[999:])):
        Path(place.path).write_bytes(packed)
        with place.content() as file:
            assert b"".join(iter(lambda: file.read(1 << 16), b"")) == content
    Path(place.path).write_bytes(pack(content)[:-9])
    with place.content() as file, pytest.raises((OSError, EOFError), match=r"(?i)trunc|ended before|end-of-stream"):
        list(iter(lambda: file.read(1 << 16), b""))


def test_a_line_that_is_no_row_is_named_and_the_others_are_kept() -> None:
    found = rows(
        b'url,caption\nhttp://a/1,one\nhttp://a/2\n"http://a/3"x,three\nhttp://a/4,"fo\nur"\nhttp://a/5,f\xff\n'
        b"http://a/6,\x00\n\nhttp://a/7,seven",
        "csv",
    )
    assert [row.line for row in found] == [2, 3, 4, 5, 7, 8, 10]
    assert [isinstance(row, Malformed) for row in found] == [False, True, True, False, False, True, False]
    assert found[3] == Row(5, {"url": "http://a/4", "caption": "fo\nur"})
    not_utf8 = to_record(found[4], source(columns={"caption": "caption"}))
    assert (not_utf8["problem"], not_utf8["caption"]) == ("row-not-utf8", "f\ufffd")


def test_a_quote_that_nobody_closed_costs_one_row() -> None:
    lines = ["url,caption", 'http://a/1,"one', *[f"http://a/{n},x" for n in range(2, 60)]]
    found = rows("\n".join(lines).encode(), "csv")
    assert [row.line for row in found if isinstance(row, Malformed)] == [2]
    assert [row.line for row in found if isinstance(row, Row)] == list(range(3, 61))


def test_a_field_that_is_far_too_long_costs_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LONGEST_FIELD", 1000)
    found = rows(b"url\nhttp://a/1\nhttp://a/" + b"2" * 2000 + b"\nhttp://a/3\n", "csv")
    assert [(row.line, isinstance(row, Row)) for row in found] == [(2, True), (3, False), (4, True)]


def test_json_lines_that_are_not_json_are_named() -> None:
    bad = [
        '{"url": ', "[1]", '{"x": NaN}', '{"x": Infinity}', '{"url": "a", "url": "b"}', '{"a": {"b": 1, "b": 2}}',
        "[" * 100_000, '{"url": "a"} {"url": "b"}', "1" * 5000,
    ]  # fmt: skip
    lines = [*bad, '{"url": "http://a/1"}', '{"url": "\\ud83d"}']
    found = rows("\n".join(lines).encode(), "jsonl")
    assert [row.line for row in found if isinstance(row, Malformed)] == list(range(1, len(bad) + 1))
    assert "'url' twice" in found[4].detail  # type: ignore[union-attr]
    half = to_record(found[-1], source(columns={"caption": "url"}))
    assert (half["problem"], half["caption"]) == ("row-not-utf8", "\ufffd")


def test_a_json_array_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.images.lists.lines._CHUNK", 7)
    content = json.dumps([*ROWS, 12, "x"], ensure_ascii=False).encode()
    found = rows(b" \n" + content + b"\n", "json")
    assert [row.values for row in found if isinstance(row, Row)] == ROWS
    assert [row.line for row in found if isinstance(row, Malformed)] == [4, 5]
    assert rows(b"[ ]", "json") == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"url": 1}', "expected a JSON array"),
        (b"", "found 'the end'"),
        (b'[{"url": 1}', "found 'the end'"),
        (b'[{"url": 1} {"url": 2}]', "after object 1, found '{'"),
        (b'[{"url": 1}, {"ur', "object 2 is not JSON"),
        (b'[{"url": 1}] 5', "nothing after the array"),
        (b'[{"url": 1},]', "object 2 is not JSON"),
    ],
)
def test_a_broken_json_array_is_an_error(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rows(content, "json")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n"])
def test_ranges_that_touch_hold_each_line_once(ending: bytes, tail: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.images.lists.lines._CHUNK", 5)
    content = "\ufeff".encode() + ending.join([b"a", b"", b"bcdefgh", "ñ".encode(), b"i" * 23, b"j"]) + tail
    text = sniff(io.BytesIO(content))
    whole = list(lines_of(io.BytesIO(content), text))
    for size in range(4, len(content) + 2):
        starts = range(0, len(content), size)
        parts = [list(lines_of(io.BytesIO(content), text, start, start + size)) for start in starts]
        assert [line for part in parts for line in part] == whole


def test_a_line_without_end_is_no_row_and_the_next_one_is() -> None:
    content = b"http://a/1\n" + b"x" * (LONGEST_LINE + (3 << 20)) + b"\nhttp://a/3\n"
    assert rows(content, "txt") == [
        Row(1, {"url": "http://a/1"}), Malformed(2, f"longer than {LONGEST_LINE} bytes"), Row(3, {"url": "http://a/3"}),
    ]  # fmt: skip
    assert [type(row) for row in rows(b"url\n" + content, "csv")] == [Row, Malformed, Row]


def test_files_of_old_macs_and_utf16_that_was_cut_off() -> None:
    assert [row.line for row in rows(b"http://a/1\rhttp://a/2\r", "txt")] == [1, 2]
    cut = "http://a/1\nhttp://a/2".encode("utf-16")[:-1]
    assert [to_record(row, source())["problem"] for row in rows(cut, "txt")] == ["", "row-not-utf8"]
