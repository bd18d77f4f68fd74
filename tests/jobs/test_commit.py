"""`commits`: what counts, once each, and what is swept."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.catalog import Catalog, CommitRow
from jobs.commit import Committer, sweep
from jobs.images.unit import write_outcomes
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
    numbers = ("generation", "http_status", "requests", "width", "height", "original_width", "original_height")
    now = datetime.datetime.now(datetime.timezone.utc)
    empty = dict.fromkeys(OUTCOME_SCHEMA.names, "") | dict.fromkeys(numbers, 0) | {"at": now}
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
    assert sweep(catalog) == 2
    left = {path.relative_to(catalog.output / SHARDS).as_posix() for path in (catalog.output / SHARDS).rglob("*.*")}
    assert left == {"u/one.outcomes.parquet", f"u/{revised.name}"}
    assert not (catalog.output / SHARDS / "v").exists()


def test_many_commits_are_one_table(catalog: Catalog) -> None:
    for number in range(60):
        catalog.commit([CommitRow("unit", f"u{number}", 1, first_ordinal=number)])
    catalog._compact()
    assert [row["unit_id"] for row in catalog.commits("unit")] == [f"u{number}" for number in range(60)]
