"""Lists of several sources and formats, read by Spark into one order, divided where they are large."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import Row, SparkSession

from jobs.images.lists import scan as scanning
from jobs.images.lists.find import find_lists
from jobs.images.lists.read import read_sources
from jobs.images.lists.scan import Scan, scan_lists
from licet.errors import DamagedError
from licet.extras import to_arrow
from licet.sources import Source, load_source


def sources(folder: Path, **bodies: str) -> dict[str, Source]:
    loaded = {}
    for id, body in bodies.items():
        path = folder / f"{id}.yaml"
        path.write_text(f"id: {id}\ntitle: t\nkind: images\nlicence: CC0-1.0\n{body}")
        loaded[str(path)] = load_source(path)
    return loaded


def read(spark: SparkSession, scan: Scan) -> list[Row]:
    with read_sources(spark, scan) as rows:
        found = rows.frame.orderBy("ordinal").collect()
        assert rows.n == len(found)
    return found


def test_rows_of_all_lists_have_one_order(spark: SparkSession, tmp_path: Path) -> None:
    for part, urls in (("a", ["http://a/1", "http://a/2", "http://a/1"]), ("b", ["", "http://a/1"])):
        (tmp_path / f"part-{part}.csv").write_text("url,n\n" + "".join(f"{url},0\n" for url in urls))
    for version in range(2):
        rows = [{"link": f"http://d/{version}{n}", "n": n} for n in range(2)]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="append")
    (tmp_path / "urls.txt.gz").write_bytes(gzip.compress(b"http://t/1\n\nHTTP://T:80/1#x\n"))
    lists = find_lists(
        sources(
            tmp_path,
            one="location: part-*.csv\nformat: csv\n",
            two="location: table\nformat: delta\ncolumns: {url: link, caption: n}\n",
            three="location: urls.txt.gz\nformat: txt\n",
        )
    )
    scan = scan_lists(spark, lists)
    rows = read(spark, scan)
    assert [row.ordinal for row in rows] == list(range(11))
    assert [row.url for row in rows[:5]] == ["http://a/1", "http://a/2", "http://a/1", "", "http://a/1"]
    assert {(row.url, row.caption) for row in rows[5:9]} == {
        (f"http://d/{v}{n}", str(n)) for v in (0, 1) for n in (0, 1)
    }
    assert [row.line for row in rows[9:]] == [1, 3]
    assert rows[9].url != rows[10].url and rows[9].url_hash == rows[10].url_hash
    assert [row.problem for row in rows].count("url-missing") == 1
    assert scan.digests["two"] == ["version 1"]
    assert {id: len(found) for id, found in scan.digests.items()} == {"one": 2, "two": 1, "three": 1}


def test_large_lists_are_divided_and_nothing_else_changes(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_PART_ROWS", 15)
    urls = [f"http://a/{n}" for n in range(100)]
    (tmp_path / "bom.txt").write_text("\ufeff" + "\r\n\r\n".join(urls))
    (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps({"url": url}) for url in urls))
    (tmp_path / "plain.csv").write_text("url,n\n" + "".join(f"{url},1\n" for url in urls))
    (tmp_path / "quoted.csv").write_text("url,n\n" + "".join(f'{url},"1\n2"\n' for url in urls))
    pq.write_table(pa.table({"url": urls}), tmp_path / "groups.parquet", row_group_size=10)
    lists = find_lists(
        sources(
            tmp_path,
            a="location: bom.txt\nformat: txt\n",
            b="location: lines.jsonl\nformat: jsonl\n",
            c="location: plain.csv\nformat: csv\n",
            d="location: quoted.csv\nformat: csv\n",
            e="location: groups.parquet\nformat: parquet\n",
        )
    )
    whole, divided = scan_lists(spark, lists), scan_lists(spark, lists, block_bytes=333)
    parts = {id: sum(part.file.source.id == id for part in divided.parts) for id in "abcde"}  # type: ignore[union-attr]
    assert parts == {"a": 5, "b": 7, "c": 5, "d": 1, "e": 10}
    rows = read(spark, divided)
    assert [row.url for row in rows] == urls * 5
    assert rows == read(spark, whole)
    assert [row.line for row in rows[:100]] == list(range(1, 200, 2))
    assert [row.line for row in rows[300:400]] == list(range(2, 202, 2))
    assert [row.line for row in rows[400:]] == list(range(1, 101))


def test_further_columns_keep_their_types(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.table(
        {
            "url": ["http://a/1", "http://a/2"],
            "taken": pa.array([1, None], pa.timestamp("us", "UTC")),
            "boxes": [[[0.0, 0.0, 0.5, 0.5]], []],
            "nested": [{"day": datetime.date(2026, 11, 21), "blob": b"\xff"}, None],
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    write_deltalake(str(tmp_path / "delta"), table)
    body = "columns: {boxes: boxes}\nextra_columns: all\n"
    lists = find_lists(
        sources(
            tmp_path,
            p=f"location: list.parquet\nformat: parquet\n{body}",
            d=f"location: delta\nformat: delta\n{body}",
        )
    )
    rows = read(spark, scan_lists(spark, lists))
    assert [row.boxes for row in rows] == ["[[0.0,0.0,0.5,0.5]]", "[]"] * 2
    for id, found in (("p", rows[:2]), ("d", rows[2:])):
        back = to_arrow([row.extra for row in found], lists.extra[id])
        assert back.to_pylist() == table.select(["taken", "nested"]).to_pylist()


def test_rows_that_a_delta_table_has_deleted_are_not_read(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.createDataFrame([(f"http://a/{n}",) for n in range(6)], "url string").coalesce(1).write.format(
        "delta"
    ).option("delta.enableDeletionVectors", "true").save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE url in ('http://a/1', 'http://a/5')")
    assert len(DeltaTable(path).file_uris()) == 1  # the file is still there, with a deletion vector
    lists = find_lists(sources(tmp_path, one=f"location: {path}\nformat: delta\n"))
    rows = read(spark, scan_lists(spark, lists))
    assert [row.url for row in rows] == [f"http://a/{n}" for n in (0, 2, 3, 4)]
    assert [row.ordinal for row in rows] == sorted({row.ordinal for row in rows})


def test_a_list_that_was_cut_off_ends_the_run_and_is_named(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"http://localhost/%d.jpg\n" % n for n in range(50_000)))
    (tmp_path / "cut.txt.gz").write_bytes(whole[:-20])
    (tmp_path / "good.txt").write_text("http://a/1\n")
    lists = find_lists(sources(tmp_path, one="location: '*.txt*'\nformat: txt\n"))
    with (
        pytest.raises(DamagedError, match=r"cut\.txt\.gz cannot be read after \d+ rows: EOFError"),
        read_sources(spark, scan_lists(spark, lists)),
    ):
        pass


def test_a_list_that_goes_away_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("http://a/1\n")
    lists = find_lists(sources(tmp_path, one="location: urls.txt\nformat: txt\n"))
    (tmp_path / "urls.txt").unlink()
    with pytest.raises(DamagedError, match=r"urls\.txt cannot be read: FileNotFoundError"):
        scan_lists(spark, lists)


def test_a_list_on_a_site_without_ranges_is_read_whole(spark: SparkSession, tmp_path: Path, web: Any) -> None:
    web.files["/list.txt"] = b"".join(b"http://a/%d\n" % n for n in range(100))
    lists = find_lists(sources(tmp_path, one=f"location: {web.url}/list.txt\nformat: txt\n"))
    scan = scan_lists(spark, lists, block_bytes=100)
    assert [row.line for row in read(spark, scan)] == list(range(1, 101))
    assert len(scan.parts) == 1
