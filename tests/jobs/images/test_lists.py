"""Lists in every format, and the lines in them that are not rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from jobs.images.lists import Unreadable, rows_of
from jobs.images.read import find_lists, to_record
from licet.errors import ConfigError
from licet.sources import Source, load_source

ROWS = [{"link": f"http://localhost/{n}.jpg", "by": "Ada", "terms": "MIT"} for n in range(3)]


def source(**values: object) -> Source:
    base = {"id": "s", "title": "A title", "kind": "images", "location": "x", "format": "csv"}
    return Source(**{**base, **values})


def write(folder: Path, format: str) -> Path:
    path = folder / f"list.{format}"
    if format in ("csv", "tsv"):
        separator = "," if format == "csv" else "\t"
        lines = [separator.join(ROWS[0]), *[separator.join(row.values()) for row in ROWS]]
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    elif format == "json":
        path.write_text(json.dumps(ROWS))
    elif format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif format == "delta":
        write_deltalake(str(path), pa.Table.from_pylist(ROWS))
    else:
        path.write_text("".join(row["link"] + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_each_format_gives_the_same_rows(tmp_path: Path, format: str) -> None:
    assert [row for _, row in rows_of(str(write(tmp_path, format)), format)] == ROWS


def test_a_bare_list_of_urls_and_a_compressed_one_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "txt")
    rows = list(rows_of(str(path), "txt"))
    assert rows == [(n + 1, {"url": row["link"]}) for n, row in enumerate(ROWS)]
    packed = tmp_path / "list.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(rows_of(str(packed), "txt")) == rows


def test_a_line_that_is_no_row_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(
        b'url,caption\nhttp://a/1,one\nhttp://a/2\n"http://a/3"x,three\nhttp://a/4,"fo\nur"\nhttp://a/5,f\xff\n'
    )
    rows = list(rows_of(str(path), "csv"))
    assert [line for line, _ in rows] == [2, 3, 4, 5, 7]
    assert [isinstance(row, Unreadable) for _, row in rows] == [False, True, True, False, False]
    assert rows[3][1] == {"url": "http://a/4", "caption": "fo\nur"}
    not_utf8 = to_record(rows[4][1], source(columns={"caption": "caption"}))
    assert (not_utf8["problem"], not_utf8["caption"]) == ("row-not-utf8", "f\ufffd")
    (tmp_path / "list.jsonl").write_text('{"url": "http://a/1"}\n{"url": \n[1]\n')
    assert [type(row).__name__ for _, row in rows_of(str(tmp_path / "list.jsonl"), "jsonl")] == [
        "dict",
        "Unreadable",
        "Unreadable",
    ]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a/x.jpg", ""),
        (" https://a:8443/x.jpg?y=1 ", ""),
        ("", "url-missing"),
        (None, "url-missing"),
        ("a/x.jpg", "url-malformed"),
        ("ftp://a/x.jpg", "url-malformed"),
        ("http:///x.jpg", "url-malformed"),
        ("http://a:99999/x", "url-malformed"),
        ("http://[::1/x", "url-malformed"),
        ("http://a/x y.jpg", "url-malformed"),
        ({"nested": 1}, "row-malformed"),
    ],
)
def test_urls_that_cannot_be_asked_for(url: object, problem: str) -> None:
    assert to_record({"url": url}, source())["problem"] == problem


def test_a_row_takes_from_its_source_what_it_does_not_say() -> None:
    given = source(
        licence="CC-BY-4.0", creator="Ada", languages=["fr"], columns={"licence": "terms", "caption": "text"}
    )
    plain = to_record({"url": "http://a/1", "terms": "", "text": 7}, given)
    assert (plain["licence"], plain["creator"], plain["language"], plain["caption"]) == ("CC-BY-4.0", "Ada", "fr", "7")
    assert plain["attribution"] == "Ada (CC-BY-4.0)"
    assert to_record({"url": "http://a/1", "terms": "MIT"}, given)["licence"] == "MIT"
    nobody = to_record({"url": "http://a/1"}, source(licence="CC-BY-4.0"))
    assert nobody["attribution"] == ""  # a credit without a name would hide that nobody is named


def yaml_for(folder: Path, body: str) -> Path:
    path = folder / "source.yaml"
    path.write_text("id: s\ntitle: t\nkind: images\n" + body)
    return path


def test_a_missing_column_names_the_line_and_the_columns(tmp_path: Path) -> None:
    for format in ("csv", "jsonl", "parquet", "delta"):
        location = write(tmp_path, format)
        path = yaml_for(tmp_path, f"location: {location}\nformat: {format}\ncolumns:\n  url: link\n  caption: text\n")
        with pytest.raises(ConfigError, match="missing: text") as caught:
            find_lists({str(path): load_source(path)})
        assert caught.value.line == 6
        assert "link, by, terms" in str(caught.value)


def test_a_place_without_a_list_names_the_line(tmp_path: Path) -> None:
    path = yaml_for(tmp_path, "location: nothing-*.csv\nformat: csv\n")
    with pytest.raises(ConfigError, match="no file at") as caught:
        find_lists({str(path): load_source(path)})
    assert caught.value.line == 4
