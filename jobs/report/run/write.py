"""The report at the end of a run: page and JSON in `<output>/report`, each replaced in one rename.

    index.html     one self-contained page
    report.json    the same for programs

It is written from the outcomes, which are the truth; what the reporter noted of the machine is taken over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.layout import CATALOG, RUN_REPORT
from jobs.report.run.outcomes import read_outcomes
from jobs.report.run.running import JSON, new_report, write_both
from jobs.report.run.thumbnails import thumbnails


def write_run_report(
    output: Path, state: str, title: Mapping[str, Any], summary: Mapping[str, Any], at_most_thumbnails: int
) -> dict[str, Any]:
    """The report at the end, of the whole output; returns what report.json says.

    `summary` is what the ingest says of itself. Progress and machine are those of the last run that fetched anything.
    Raises `ShardDamagedError` when a shard does not hold what its index says.
    """
    folder = output / RUN_REPORT
    outcomes = read_outcomes(output / CATALOG, at_most_thumbnails)
    before = _read(folder)
    report = new_report(state, title) | {
        "summary": dict(summary),
        "progress": before.get("progress"),
        "history": before.get("history"),
        "outcomes": outcomes.as_dict(),
    }
    write_both(folder, report, list(thumbnails(output, outcomes.samples)))
    return report


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / JSON).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found
