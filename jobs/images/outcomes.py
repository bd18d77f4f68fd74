"""Outcomes: one row for each planned row, kept or rejected, with its reason. Written beside a unit's shards.

This file knows the outcome table. It does not know how a row came to its end.
"""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from licet.records import OUTCOME_SCHEMA, Rejected, Sample
from licet.shards.index import fsync_folder

_EMPTY: dict[str, Any] = {
    field.name: False if pa.types.is_boolean(field.type) else 0 if pa.types.is_integer(field.type) else ""
    for field in OUTCOME_SCHEMA
}

_SAMPLE_NAMES = [field.name for field in fields(Sample) if field.name in OUTCOME_SCHEMA.names]
_REJECTED_NAMES = [field.name for field in fields(Rejected) if field.name in OUTCOME_SCHEMA.names]


@dataclass(frozen=True, slots=True)
class Ended:
    """How one row's walk ended, and what it cost."""

    result: Sample | Rejected
    at: datetime.datetime
    said: Mapping[str, Any] = field(default_factory=dict)
    """What robots.txt, headers and the file said, with the times of asking."""
    http_status: int = 0
    requests: int = 0
    """Sent for this row: for its site's files too, where it was the first to ask."""
    n_bytes: int = 0
    fetch_ms: int = 0
    sha256: str = ""
    """Of the bytes, where they came and were then refused for what was said of them: copies are found by it."""


def outcome(row: Mapping[str, Any], ended: Ended, unit_id: str, generation: int) -> dict[str, Any]:
    """A row of the plan and how it ended, as a row of `OUTCOME_SCHEMA`."""
    planned = {name: row[name] for name in OUTCOME_SCHEMA.names if name in row} | {"source_url": row["url"]}
    place = {"row_id": row["row_id"], "generation": generation, "unit_id": unit_id, "at": ended.at}
    cost = {"http_status": ended.http_status, "requests": ended.requests, "n_bytes": ended.n_bytes}
    said = {"rights": json.dumps(ended.said, sort_keys=True), "fetch_ms": ended.fetch_ms}
    names = _SAMPLE_NAMES if isinstance(ended.result, Sample) else _REJECTED_NAMES
    known = {"exif": "{}", "sha256": ended.sha256} | {name: getattr(ended.result, name) for name in names}
    state = "rejected"
    if isinstance(ended.result, Sample):
        state, known["rule"] = "kept", ended.result.decision
    return _EMPTY | planned | known | place | cost | said | {"state": state}


def write_outcomes(path: Path, outcomes: list[dict[str, Any]]) -> None:
    """Write rows of `OUTCOME_SCHEMA` durably."""
    with open(path, "xb") as file:
        pq.write_table(pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    fsync_folder(str(path.parent))


def count_outcomes(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """kept, rejected and reasons, as a `CommitRow` has them."""
    states = Counter((o["state"], o["reason"]) for o in outcomes)
    reasons = {reason: n for (state, reason), n in sorted(states.items()) if state == "rejected"}
    kept = sum(n for (state, _), n in states.items() if state == "kept")
    return {"kept": kept, "rejected": sum(reasons.values()), "reasons": reasons}
