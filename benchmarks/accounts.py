"""What an ingest's output accounts for: rows lost, rows twice, rows without exactly one terminal state.

It reads the tables with deltalake and the shards with their readers, so it shares nothing with the code that wrote
them but the formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from licet.manifest import Manifest, read_manifest
from licet.shards import open_reader


@dataclass(frozen=True)
class Account:
    """Counts of one output; all but `kept` and `rejected` ought to be 0."""

    lost: int
    """Rows of the list without an outcome, and rows said to be kept that no shard holds."""
    duplicated: int
    """Outcomes and samples beyond the first of a row, in the tables and in the shards."""
    unsettled: int
    """Planned rows that are not in exactly one of the states kept and rejected, the latter with a reason."""
    kept: int
    rejected: int
    identity: str
    """Of the manifest."""
    states: frozenset[tuple[str, str, str]]
    """(row id, state, reason)."""

    @property
    def whole(self) -> bool:
        return not (self.lost or self.duplicated or self.unsettled)


def account(output: Path, n_listed: int) -> Account:
    """Count an output that was published as `manifest.json`; `n_listed` rows are in its lists."""
    planned = {row["row_id"] for row in _rows(output, "plan", ["row_id"])}
    outcomes = _rows(output, "outcomes", ["row_id", "state", "reason"])
    manifest = read_manifest(output / "manifest.json")
    return count(n_listed, planned, outcomes, Counter(_live_keys(manifest)), manifest.identity)


def count(
    n_listed: int, planned: set[str], outcomes: list[dict[str, Any]], in_shards: Counter[str], identity: str
) -> Account:
    """The account of these planned row ids, outcomes, and live samples of shards (row id -> how often)."""
    states = Counter(row["row_id"] for row in outcomes)
    settled = {
        row["row_id"] for row in outcomes if row["state"] == "kept" or (row["state"] == "rejected" and row["reason"])
    }
    kept = {row["row_id"] for row in outcomes if row["state"] == "kept"}
    return Account(
        lost=n_listed - len(planned & states.keys()) + len(kept - in_shards.keys()),
        duplicated=sum(n - 1 for n in states.values()) + sum(n - 1 for n in in_shards.values()),
        unsettled=len(planned ^ states.keys()) + sum(states[row] != 1 or row not in settled for row in states),
        kept=len(kept),
        rejected=len(states) - len(kept),
        identity=identity,
        states=frozenset((row["row_id"], row["state"], row["reason"]) for row in outcomes),
    )


def _rows(output: Path, table: str, columns: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        DeltaTable(str(output / "catalog" / table)).to_pyarrow_table(columns=columns).to_pylist()
    )
    return rows


def _live_keys(manifest: Manifest) -> Iterator[str]:
    """Row ids of the live samples, from the shards of the first format themselves."""
    for entry in manifest.entries():
        format = manifest.formats[0]
        reader = open_reader(format, manifest.resolve(entry.files[format].path))
        live = manifest.index(entry, format).table.column("live").to_pylist()
        yield from (reader[place].key for place in range(len(reader)) if live[place])
