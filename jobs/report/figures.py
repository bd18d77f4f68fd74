"""Sums, counts and lists of an audit: what the JSON says and the page shows.

Sums are computed by the SQL engine; a list is bounded by the caller, or streamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from jobs.report.checks import refusal
from jobs.report.tables import Tables, quoted
from licet.ledger import Ledger
from licet.manifest import Manifest
from licet.policy import Policy
from licet.records import Stage

REFUSED_COLUMNS = (
    "row_id", "source_url", "source_id", "licence", "stage", "reason", "rule", "detail",
    "http_status", "requests", "duplicate_of",
)  # fmt: skip
KEPT_COLUMNS = ("key", "source_url", "source_page", "source_id", "licence", "licence_url", "creator", "attribution")
NOT_PUBLISHED = "not-published"
"""Why a kept row is not in the manifest when the policy would allow it: it was ingested later, or not selected."""


@dataclass(frozen=True)
class Figures:
    """Counts of rows and requests."""

    rows_in: int
    """Planned rows."""
    kept: int
    rejected: int
    in_manifest: int
    """Live rows of the manifest: at most `kept`."""
    withheld: int
    """Kept in the catalog, but not in this manifest."""
    requests: int
    requests_for_denied_rows: int
    rejected_by: tuple[dict[str, Any], ...]
    """{stage, reason, rule, rows, requests} in the order of the stages."""
    by_licence: dict[str, dict[str, int]]
    """Licence -> {in_manifest, kept, rejected}."""
    by_language: dict[str, dict[str, int]]
    by_source: dict[str, dict[str, int]]

    def rejected_by_one(self, name: str) -> dict[str, int]:
        """Refused rows by stage, reason or rule; rows without one are left out."""
        counts: dict[str, int] = {}
        for group in self.rejected_by:
            if group[name]:
                counts[group[name]] = counts.get(group[name], 0) + group["rows"]
        return counts


def figures(tables: Tables, ledger: Ledger) -> Figures:
    """Count everything once."""
    groups = tables.rows(
        "SELECT stage, reason, rule, count(*) AS rows, sum(requests) AS requests FROM outcomes "
        f"WHERE state = 'rejected' GROUP BY stage, reason, rule ORDER BY {_stage_order('stage')}, reason, rule"
    )
    return Figures(
        rows_in=tables.sum_by_slice("SELECT count(DISTINCT row_id) FROM plan"),
        kept=tables.number("SELECT count(*) FROM outcomes WHERE state = 'kept'"),
        rejected=tables.number("SELECT count(*) FROM outcomes WHERE state = 'rejected'"),
        in_manifest=ledger.rows,
        withheld=tables.sum_by_slice(f"SELECT count(*) FROM ({_WITHHELD})"),
        requests=tables.number("SELECT sum(requests) FROM outcomes"),
        requests_for_denied_rows=tables.number(
            "SELECT sum(requests) FROM outcomes WHERE state = 'rejected' AND stage = 'policy'"
        ),
        rejected_by=tuple(groups),
        by_licence=_by(tables, "licence", ledger.licences),
        by_language=_by(tables, "language", ledger.languages),
        by_source=_by(tables, "source_id", ledger.sources),
    )


def refused_rows(tables: Tables, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Refused rows: the first `limit` by stage, reason and URL; or all of them in the table's order, streamed."""
    sql = f"SELECT {', '.join(REFUSED_COLUMNS)} FROM outcomes WHERE state = 'rejected'"
    if limit is not None:
        sql += f" ORDER BY {_stage_order('stage')}, reason, rule, source_id, source_url, row_id LIMIT {limit}"
    yield from tables.rows(sql)


def urls_of(tables: Tables, row_ids: set[str]) -> dict[str, str]:
    """Row id -> URL, for a bounded number of rows."""
    if not row_ids:
        return {}
    ids = ", ".join(quoted(row_id) for row_id in sorted(row_ids))
    return {
        r["row_id"]: r["source_url"]
        for r in tables.rows(f"SELECT row_id, source_url FROM outcomes WHERE row_id IN ({ids})")
    }


def withheld_rows(tables: Tables, policy: Policy, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Kept rows that the manifest leaves out, by row id, each with the policy's rule for it, or `NOT_PUBLISHED`."""
    last = "" if limit is None else f" LIMIT {limit}"
    for row in islice(tables.rows_by_slice(f"{_WITHHELD} ORDER BY o.row_id{last}"), limit):
        rule, why = refusal(policy, row["licence"], row.pop("credited")) or (NOT_PUBLISHED, "it was not published")
        yield {**row, "rule": rule, "why": why}


def kept_rows(manifest: Manifest) -> Iterator[dict[str, str]]:
    """Source, licence and credit of each live row of a manifest, in plan order."""
    for entry in manifest.entries():
        index = manifest.index(entry, next(iter(entry.files))).table
        for row in index.filter(index["live"]).select(KEPT_COLUMNS).to_pylist():
            yield {"row_id": row.pop("key"), **row}


_WITHHELD = (
    "SELECT o.row_id, o.source_url, o.source_id, o.licence, "
    "(o.creator <> '' OR o.attribution <> '') AS credited "
    "FROM outcomes o LEFT ANTI JOIN manifest m ON o.row_id = m.row_id WHERE o.state = 'kept'"
)


def _by(tables: Tables, column: str, in_manifest: dict[str, int]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for value, rows in in_manifest.items():
        counts[value] = {"in_manifest": rows, "kept": 0, "rejected": 0}
    for row in tables.rows(f"SELECT {column} AS value, state, count(*) AS rows FROM outcomes GROUP BY {column}, state"):
        counts.setdefault(row["value"], {"in_manifest": 0, "kept": 0, "rejected": 0})[row["state"]] = row["rows"]
    return dict(sorted(counts.items()))


def _stage_order(column: str) -> str:
    """SQL that sorts stages as a record passes them."""
    cases = " ".join(f"WHEN {quoted(stage)} THEN {rank}" for rank, stage in enumerate(get_args(Stage)))
    return f"CASE {column} {cases} ELSE 99 END"
