"""`commits`: what counts, once each, and what is swept."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from jobs.catalog import Catalog, CommitRow, _shards_of
from jobs.commit import Committer, sweep
from jobs.images.outcomes import write_outcomes
from jobs.layout import SHARDS
from licet.errors import LicetError, MismatchError
from licet.records import OUTCOME_SCHEMA


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Without Spark: these tables have a row per unit."""
    return Catalog(None, tmp_path / "catalog")  # type: ignore[arg-type]


def report(catalog: Catalog, unit_id: str, attempt: str, rows: int = 2, **values: Any) -> CommitRow:
    """What an attempt reports, with the outcomes file that it wrote."""
    path = f"{SHARDS}/{unit_id}/{attempt}.outcomes.parquet"
    (catalog.output / path).parent.mkdir(parents=True, exist_ok=True)
    by_type = {"string": "", "bool": False, "timestamp[us, tz=UTC]": datetime.datetime.now(datetime.timezone.utc)}
    empty = {field.name: by_type.get(str(field.type), 0) for field in OUTCOME_SCHEMA}
    write_outcomes(catalog.output / path, [empty | {"row_id": f"{unit_id}{n}"} for n in range(rows)])
    row = CommitRow(
        "unit", unit_id, 1, attempt, planned=2, kept=1, rejected=1, reasons={"denied": 1}, outcomes_path=path
    )
    return replace(row, **values)


def test_of_two_attempts_the_first_report_counts(catalog: Catalog) -> None:
    with Committer(catalog) as committer:
        for attempt in ("one", "two"):
            committer.add(report(catalog, "u", attempt))
    with Committer(catalog) as committer:  # another driver, another day
        committer.add(report(catalog, "u", "three"))
    assert [row["attempt"] for row in catalog.commits("unit")] == ["one"]


def test_a_second_commit_of_a_unit_changes_nothing(catalog: Catalog) -> None:
    catalog.commit([report(catalog, "u", "one")])
    catalog.commit([report(catalog, "u", "two"), report(catalog, "v", "three")])
    assert [(row["unit_id"], row["attempt"]) for row in catalog.commits("unit")] == [("u", "one"), ("v", "three")]


@pytest.mark.parametrize(
    "wrong", [{"kept": 2}, {"reasons": {"denied": 2}}, {"rows": 3, "planned": 2}, {"rejected": 0, "reasons": {}}]
)
def test_a_report_that_does_not_add_up_is_not_committed(catalog: Catalog, wrong: dict[str, Any]) -> None:
    rows = wrong.pop("rows", 2)
    with pytest.raises(MismatchError), Committer(catalog) as committer:
        committer.add(report(catalog, "u", "one", rows, **wrong))
    assert catalog.commits("unit") == []


def test_a_report_whose_outcomes_are_missing_is_not_committed(catalog: Catalog) -> None:
    row = report(catalog, "u", "one")
    (catalog.output / row.outcomes_path).unlink()
    with pytest.raises(LicetError, match="cannot be read"), Committer(catalog) as committer:
        committer.add(row)
    assert catalog.commits("unit") == []


def test_what_no_commit_names_is_swept_and_the_rest_stays(catalog: Catalog) -> None:
    catalog.commit([report(catalog, "u", "one")])
    report(catalog, "u", "dead")
    report(catalog, "v", "dead")
    revised = catalog.output / SHARDS / "u" / "one.parquet.0123456789abcdef.index.arrow"
    revised.write_bytes(b"an index that a manifest lists")
    for attempt in ("one", "dead"):
        (catalog.output / SHARDS / "u" / f"{attempt}-00001.tar").write_bytes(b"a shard")
        (catalog.output / SHARDS / "u" / f"{attempt}-00001.files.d").mkdir()
        (catalog.output / SHARDS / "u" / f"{attempt}-00001.files.d" / "key.jpg").write_bytes(b"a photo")
    assert sweep(catalog) == 4
    left = {path.relative_to(catalog.output / SHARDS).as_posix() for path in (catalog.output / SHARDS).rglob("*.*")}
    assert left == {
        "u/one.outcomes.parquet", f"u/{revised.name}", "u/one-00001.tar", "u/one-00001.files.d",
        "u/one-00001.files.d/key.jpg",
    }  # fmt: skip
    assert not (catalog.output / SHARDS / "v").exists()


def test_many_commits_are_one_table(catalog: Catalog) -> None:
    for number in range(60):
        catalog.commit([CommitRow("unit", f"u{number}", 1, unit_index=number)])
    catalog._compact()
    assert [row["unit_id"] for row in catalog.commits("unit")] == [f"u{number}" for number in range(60)]


def test_many_transactions_leave_few_files_and_the_first_report_of_each_unit(catalog: Catalog) -> None:
    catalog.compact_every = 8
    with Committer(catalog, most_in_one=1) as committer:
        for number in range(24):
            committer.add(report(catalog, f"u{number % 20}", f"attempt{number}"))
    table = DeltaTable(str(catalog.path / "commits"))
    assert sum(entry["operation"] == "WRITE" for entry in table.history()) == 20
    assert len(table.file_uris()) < 10
    listed = catalog.commits("unit", columns=["attempt"])
    assert {row["unit_id"]: row["attempt"] for row in listed} == {f"u{n}": f"attempt{n}" for n in range(20)}


def test_the_table_of_shards_has_a_row_for_each_file_of_the_latest_generation(catalog: Catalog) -> None:
    def made(unit_id: str, generation: int, index: int, *names: str) -> CommitRow:
        files = [{"format": "parquet", "path": name, "shard": n, "rows": 2} for n, name in enumerate(names)]
        return CommitRow("unit", unit_id, generation, "a", unit_index=index, rows=2 * len(names), files=files)

    catalog.commit([made("b", 1, 1, "b0", "b1"), made("a", 1, 0, "old"), made("empty", 1, 2)])
    catalog.commit([made("a", 2, 0, "a0")])
    found = _shards_of(catalog._shard_units()).select(["unit_id", "generation", "path", "shard"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("b", 1, "b0", 0), ("b", 1, "b1", 1), ("a", 2, "a0", 0)]
