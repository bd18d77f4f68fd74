"""Where lists may lie, and what is said of a source whose list is not there or not as its YAML says."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from jobs.images.lists.find import ListFile, find_lists
from licet.errors import ConfigError
from licet.sources import load_source

ROWS = [{"link": f"http://localhost/{n}.jpg", "by": "Ada", "terms": "MIT"} for n in range(3)]


def write(folder: Path, format: str) -> Path:
    path = folder / f"list.{format}"
    if format == "csv":
        path.write_text("\n".join([",".join(ROWS[0]), *[",".join(row.values()) for row in ROWS]]))
    elif format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        write_deltalake(str(path), pa.Table.from_pylist(ROWS))
    return path


def yaml_for(folder: Path, body: str) -> Path:
    path = folder / "source.yaml"
    path.write_text("id: s\ntitle: t\nkind: images\n" + body)
    return path


def found(folder: Path, location: object, format: str = "txt") -> list[str]:
    path = yaml_for(folder, f"location: {location}\nformat: {format}\n")
    lists = find_lists({str(path): load_source(path)})
    return [part.place.name for part in lists.parts if isinstance(part, ListFile)]


def test_a_file_a_folder_and_a_glob(tmp_path: Path) -> None:
    names = ("b.txt", "a.txt.gz", "deep/c.txt", "_SUCCESS.txt", ".hidden.txt", "_tmp/d.txt", "readme.md", "[e].txt")
    for name in names:
        path = tmp_path / "lists" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"http://a/1\n") if name.endswith("gz") else b"http://a/1\n")
    root = f"{tmp_path}/lists"
    below = [f"{root}/{name}" for name in ("[e].txt", "a.txt.gz", "b.txt", "deep/c.txt")]
    assert found(tmp_path, "lists") == found(tmp_path, f"file://{root}/") == below
    assert found(tmp_path, "lists/[ab].txt*") == [f"{root}/a.txt.gz", f"{root}/b.txt"]
    assert found(tmp_path, "lists/**/c.txt") == [f"{root}/deep/c.txt"]
    assert found(tmp_path, "lists/[e].txt") == [f"{root}/[e].txt"]
    assert found(tmp_path, "lists/readme.md") == [f"{root}/readme.md"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A site with the files of `tmp_path`, which knows no ranges."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_any_url_that_fsspec_knows(tmp_path: Path, served: str) -> None:
    csv, parquet = write(tmp_path, "csv"), write(tmp_path, "parquet")
    with zipfile.ZipFile(tmp_path / "lists.zip", "w") as archive:
        archive.write(csv, "in/list.csv")
    for location, format in (
        (f"{served}/list.csv", "csv"),
        (f"{served}/list.csv?v=1", "csv"),
        (f"{served}/list.parquet", "parquet"),
        (f"zip://in/*.csv::file://{tmp_path}/lists.zip", "csv"),
    ):
        path = yaml_for(tmp_path, f'location: "{location}"\nformat: {format}\ncolumns: {{url: link}}\n')
        [part] = find_lists({str(path): load_source(path)}).parts
        assert isinstance(part, ListFile)
        assert part.columns == ("link", "by", "terms")
    assert parquet.exists()


def test_a_missing_column_names_the_line_and_the_columns(tmp_path: Path) -> None:
    for format in ("csv", "jsonl", "parquet", "delta"):
        location = write(tmp_path, format)
        path = yaml_for(tmp_path, f"location: {location}\nformat: {format}\ncolumns:\n  url: link\n  caption: text\n")
        with pytest.raises(ConfigError, match="missing: text") as caught:
            find_lists({str(path): load_source(path)})
        assert caught.value.line == 6
        assert "link, by, terms" in str(caught.value)
    path = yaml_for(tmp_path, "location: list.csv\nformat: csv\ncolumns: {url: link}\nextra_columns: [by, size]\n")
    with pytest.raises(ConfigError, match="missing: size") as caught:
        find_lists({str(path): load_source(path)})
    assert caught.value.line == 7


@pytest.mark.parametrize(
    ("body", "line", "told"),
    [
        ("location: nothing-*.csv\nformat: csv\n", 4, "no file at"),
        ("location: nothing-here\nformat: csv\n", 4, "no file at"),
        ("location: nosuch://x/y.csv\nformat: csv\n", 4, "Protocol not known: nosuch"),
        ("location: twice.csv\nformat: csv\n", 4, "url twice"),
        ("location: cut.parquet\nformat: parquet\n", 5, "cut.parquet to be parquet"),
        ("location: not.csv.gz\nformat: csv\n", 5, "not.csv.gz to be csv"),
        ("location: cut.json\nformat: json\n", 5, "cut.json to be json"),
        ("location: types\nformat: parquet\nextra_columns: all\n", 6, "x has incompatible types"),
    ],
)
def test_a_list_that_is_not_what_the_yaml_says_is_named_with_its_line(
    tmp_path: Path, body: str, line: int, told: str
) -> None:
    (tmp_path / "twice.csv").write_text("url,url\n")
    (tmp_path / "not.csv.gz").write_text("url\nhttp://a/1\n")
    (tmp_path / "cut.json").write_text('[{"url": "a"}, {"url')
    pq.write_table(pa.table({"url": ["x"] * 1000}), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    (tmp_path / "types").mkdir()
    pq.write_table(pa.table({"url": ["x"], "x": [1]}), tmp_path / "types/1.parquet")
    pq.write_table(pa.table({"url": ["x"], "x": ["1"]}), tmp_path / "types/2.parquet")
    path = yaml_for(tmp_path, body)
    with pytest.raises(ConfigError, match=told) as caught:
        find_lists({str(path): load_source(path)})
    assert caught.value.line == line


def test_further_columns_have_the_types_of_all_files_together(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "n": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"url": ["x"], "n": pa.array([1], pa.int64()), "t": ["y"]}), tmp_path / "2.parquet")
    path = yaml_for(tmp_path, "location: '*.parquet'\nformat: parquet\nextra_columns: all\n")
    assert find_lists({str(path): load_source(path)}).extra["s"] == pa.schema([("n", pa.int64()), ("t", pa.string())])
