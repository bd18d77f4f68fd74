"""Lists of several sources and formats, read by Spark into one order."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from jobs.images.plan import differences
from jobs.images.read import digests_of, find_lists, read_sources
from licet.records import row_id_of
from licet.sources import load_source


def test_rows_of_all_lists_have_one_order_and_ids_of_the_contract(spark: SparkSession, tmp_path: Path) -> None:
    for part, urls in (("a", ["http://a/1", "http://a/2", "http://a/1"]), ("b", ["", "http://a/1"])):
        (tmp_path / f"part-{part}.csv").write_text("url,n\n" + "".join(f"{url},0\n" for url in urls))
    for version in range(2):
        rows = [{"link": f"http://d/{version}{n}", "n": n} for n in range(2)]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="append")
    (tmp_path / "urls.txt").write_text("http://t/1\n\nhttp://t/2\n")
    head = "title: t\nkind: images\nlicence: CC0-1.0\n"
    texts = {
        "one": "location: part-*.csv\nformat: csv\n",
        "two": "location: table\nformat: delta\ncolumns: {url: link, caption: n}\n",
        "three": "location: urls.txt\nformat: txt\n",
    }
    sources = {}
    for id, text in texts.items():
        (tmp_path / f"{id}.yaml").write_text(f"id: {id}\n{head}{text}")
        sources[str(tmp_path / f"{id}.yaml")] = load_source(tmp_path / f"{id}.yaml")
    lists = find_lists(sources)
    with read_sources(spark, lists) as frame:
        rows = frame.orderBy("ordinal").collect()
    assert [row.ordinal for row in rows] == list(range(11))
    assert [row.url for row in rows[:5]] == ["http://a/1", "http://a/2", "http://a/1", "", "http://a/1"]
    assert {row.url for row in rows[5:9]} == {"http://d/00", "http://d/01", "http://d/10", "http://d/11"}
    assert [row.line for row in rows[9:]] == [1, 3]
    occurrences = [0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0]
    ids = [row_id_of(row.source_id, row.url, n) for row, n in zip(rows, occurrences, strict=True)]
    assert [row.row_id for row in rows] == ids
    assert [row.problem for row in rows].count("url-missing") == 1
    digests = digests_of(spark, lists)
    assert digests["two"] == ["version 1"]
    assert {id: len(found) for id, found in digests.items()} == {"one": 2, "two": 1, "three": 1}


def test_a_difference_is_shown_with_its_place() -> None:
    stored = {"image": {"size_px": 96, "format": "jpg"}, "formats": ["lmdb"]}
    asked = {"image": {"size_px": 64, "format": "jpg"}, "formats": ["lmdb"], "more": 1}
    assert differences(stored, asked) == ["image.size_px: 96 -> 64", "more: nothing -> 1"]
