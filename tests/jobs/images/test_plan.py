"""The frozen plan: units, their order, and which rows a further plan holds. Real Spark, real Delta, nothing fetched."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.catalog import Catalog, CommitRow
from jobs.images.lists.find import find_lists
from jobs.images.lists.read import read_sources
from jobs.images.lists.scan import scan_lists
from jobs.images.outcomes import write_outcomes
from jobs.images.plan import (
    PLANNED,
    differences,
    figures_of,
    freeze_plan,
    freeze_retry,
    require_extension,
    work_units,
)
from jobs.images.records import WorkUnit
from jobs.layout import SHARDS
from licet.errors import MismatchError, UsageError
from licet.extras import read_schema
from licet.records import OUTCOME_SCHEMA, row_id_of
from licet.sources import load_source

OPTIONS = {"image": {"size_px": 96}, "policy": {"rules": "x"}, "fetch": {}, "formats": ["lmdb"], "rows_per_unit": 10}


class Output:
    """A catalog, and a list that can grow."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.catalog = Catalog(spark, folder / "out/catalog")

    def plan(self, lines: list[str], **options: Any) -> int:
        (self.folder / "list.csv").write_text("url,caption,n\n" + "\n".join(lines))
        path = self.folder / "s.yaml"
        path.write_text(
            "id: s\ntitle: t\nkind: images\nlocation: list.csv\nformat: csv\n"
            "columns: {caption: caption}\nextra_columns: [n]\n"
        )
        source = load_source(path)
        lists = find_lists({str(path): source})
        asked = {**OPTIONS, "sources": {"s": {"opt_out_protocols": [], "lists": [str(len(lines))]}}, **options}
        with read_sources(self.catalog.spark, scan_lists(self.catalog.spark, lists, block_bytes=20_000)) as rows:
            return freeze_plan(self.catalog, rows, asked, [source], lists.extra)

    def rows(self) -> list[dict[str, Any]]:
        return [
            row.asDict() for row in self.catalog.read("plan").orderBy("generation", "unit_index", "place").collect()
        ]

    def finish(self, unit: WorkUnit, transient: set[str]) -> None:
        """As if the unit had run: its rows are kept, but those whose URL failed for a passing reason."""
        rows = [r for r in self.rows() if (r["unit_id"], r["generation"]) == (unit.unit_id, unit.generation)]
        now = datetime.datetime.now(datetime.timezone.utc)
        numbers = {f.name: 0 for f in OUTCOME_SCHEMA if pa.types.is_integer(f.type)}
        empty = dict.fromkeys(OUTCOME_SCHEMA.names, "") | numbers | {"transient": False, "at": now, "state": "kept"}
        failed = {"state": "rejected", "stage": "fetch", "reason": "timeout", "transient": True}
        outcomes = [
            empty
            | {"row_id": r["row_id"], "generation": unit.generation, "unit_id": unit.unit_id, "source_url": r["url"]}
            | (failed if r["url"] in transient else {})
            for r in rows
        ]
        path = self.catalog.output / SHARDS / unit.unit_id / f"{unit.generation}.outcomes.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_outcomes(path, outcomes)
        relative = str(path.relative_to(self.catalog.output))
        self.catalog.commit(
            [CommitRow("unit", unit.unit_id, unit.generation, planned=len(rows), outcomes_path=relative)]
        )


@pytest.fixture(scope="module")
def output(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Output]:
    root = tmp_path_factory.mktemp("plans")
    count = iter(range(100))
    return lambda: Output(spark, root / str(next(count)))


URLS = [f"http://host{n % 7}.example/{n}.jpg" for n in range(95)]
AGAIN = ["HTTP://HOST0.example:80/0.jpg#x", URLS[0], "", "", "ftp://x/y"]
LINES = [f"{url},c,{n}" for n, url in enumerate([*URLS, *AGAIN])]


def test_a_plan_holds_every_row_once_and_rows_of_one_url_side_by_side(output: Callable[[], Output]) -> None:
    out = output()
    assert out.plan(LINES) == 100
    rows = out.rows()
    assert set(rows[0]) == set(PLANNED)
    listed = sorted(rows, key=lambda row: row["ordinal"])
    assert [row["url"] for row in listed] == [*URLS, *AGAIN]
    assert [row["ordinal"] for row in listed] == list(range(100))
    occurrences = [0] * 96 + [1, 0, 1, 0]
    assert [r["row_id"] for r in listed] == [
        row_id_of("s", r["url"], n) for r, n in zip(listed, occurrences, strict=True)
    ]
    assert listed[5]["extra"] == '{"n":"5"}'
    units: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        units[row["unit_id"]].append(row)
    assert [row["place"] for unit in units.values() for row in unit] == [
        n for unit in units.values() for n in range(len(unit))
    ]
    [together] = [unit for unit in units.values() if any(row["ordinal"] == 0 for row in unit)]
    at = [n for n, row in enumerate(together) if row["canonical_url"] == "http://host0.example/0.jpg"]
    assert [together[n]["ordinal"] for n in at] == [0, 95, 96]
    assert at == list(range(at[0], at[0] + 3))
    found = work_units(out.catalog)
    assert [unit.unit_id for unit in found] == list(units)
    assert [unit.planned for unit in found] == [len(unit) for unit in units.values()]
    assert len(found) <= 10
    assert all(len({row["url"].split("/")[2] for row in unit if row["canonical_url"]}) > 1 for unit in units.values())
    assert figures_of(out.catalog) == {"rows": 100, "units": len(found), "hosts": 7}
    record = out.catalog._small("sources").to_pylist()[0]["record"]
    assert read_schema(record) == pa.schema([("n", pa.string())])


def test_the_same_rows_and_options_give_the_same_units(output: Callable[[], Output]) -> None:
    def ids(**options: Any) -> list[str]:
        out = output()
        out.plan(LINES[:50], **options)
        return [unit.unit_id for unit in work_units(out.catalog)]

    once = ids()
    assert ids() == once
    assert not set(ids(image={"size_px": 64})) & set(once)


def test_a_url_that_a_list_repeats_without_end_is_no_unit_without_end(output: Callable[[], Output]) -> None:
    out = output()
    out.plan(["http://a/same.jpg,c,0"] * 2500)
    units = work_units(out.catalog)
    assert [unit.planned for unit in units] == [1000, 1000, 500]
    assert len({row["row_id"] for row in out.rows()}) == 2500


def test_new_rows_are_planned_alone_and_failed_ones_again(output: Callable[[], Output]) -> None:
    out = output()
    out.plan(LINES[:20], rows_per_unit=5)
    first, *others = work_units(out.catalog)
    for unit in (first, *others[:-1]):
        out.finish(unit, transient={URLS[3], URLS[4], URLS[17]})
    waiting = {row["url"] for row in out.rows() if row["unit_id"] == others[-1].unit_id}
    failed = {URLS[3], URLS[4], URLS[17]} - waiting

    assert out.plan(LINES[:23], rows_per_unit=5) == 3  # rows that wait for their turn are not planned again
    assert {row["url"] for row in out.rows() if row["generation"] == 2} == set(URLS[20:23])
    assert work_units(out.catalog)[0] == others[-1]

    options = out.catalog.plan_options()
    assert options is not None
    assert freeze_retry(out.catalog, options) == len(failed)
    assert {row["url"] for row in out.rows() if row["generation"] == 3} == failed
    assert freeze_retry(out.catalog, options) == 0  # they wait already
    assert out.catalog.generations() == [1, 2, 3]
    for unit in work_units(out.catalog):
        out.finish(unit, transient={URLS[3]} if unit.generation == 3 else set())
    assert work_units(out.catalog) == []
    assert freeze_retry(out.catalog, options) == (URLS[3] in failed)
    assert out.catalog.planned_rows() == 23


def test_units_whose_rows_were_all_planned_again_are_left_out(output: Callable[[], Output]) -> None:
    out = output()
    out.plan(LINES[:20])
    out.plan(LINES[:20], image={"size_px": 64})
    assert {unit.generation for unit in work_units(out.catalog)} == {2}
    assert sum(unit.planned for unit in work_units(out.catalog)) == 20


def test_an_extension_changes_lists_and_nothing_else() -> None:
    stored = {"image": {"size_px": 96}, "sources": {"a": {"licence": "MIT", "lists": ["1"]}}}
    more = {"a": {"licence": "MIT", "lists": ["2"]}, "b": {"licence": "MIT", "lists": ["1"]}}
    require_extension(stored, {**stored, "sources": more})
    for asked in (
        {**stored, "image": {"size_px": 64}},
        {**stored, "sources": {"a": {"licence": "CC0-1.0", "lists": ["1"]}}},
        {**stored, "sources": {"b": more["b"]}},
    ):
        with pytest.raises(MismatchError, match="->"):
            require_extension(stored, asked)


def test_a_difference_is_shown_with_its_place() -> None:
    stored = {"image": {"size_px": 96, "format": "jpg"}, "formats": ["lmdb"]}
    asked = {"image": {"size_px": 64, "format": "jpg"}, "formats": ["lmdb"], "more": 1}
    assert differences(stored, asked) == ["image.size_px: 96 -> 64", "more: nothing -> 1"]


def test_lists_without_rows_are_no_plan(output: Callable[[], Output]) -> None:
    out = output()
    with pytest.raises(UsageError, match="hold no rows"):
        out.plan([])
    assert not out.catalog.exists()
