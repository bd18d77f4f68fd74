"""Page and JSON of a run that is going on, into `<output>/report`; and what every such report has.

The reporter imports this: it is kept free of Delta and of images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.report.run.page import render
from licet.manifest import write_durably

if TYPE_CHECKING:
    from jobs.report.run.thumbnails import Thumbnail

SCHEMA_VERSION = 1
JSON, PAGE = "report.json", "index.html"


def write_running_report(
    folder: Path,
    state: str,
    title: Mapping[str, Any],
    progress: Mapping[str, Any] | None,
    history: Mapping[str, Any],
) -> None:
    """What is known while units run: the units' reports, and the machine."""
    report = new_report(state, title) | {"progress": progress, "history": history}
    write_both(folder, report, [])


def new_report(state: str, title: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "licet_run_report": SCHEMA_VERSION,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "state": state,
        "title": dict(title),
        "summary": None,
        "progress": None,
        "history": None,
        "outcomes": None,
    }


def write_both(folder: Path, report: dict[str, Any], images: Sequence[Thumbnail]) -> None:
    shown = [{k: v for k, v in asdict(image).items() if k != "image"} for image in images]
    text = json.dumps({**report, "thumbnails": shown}, indent=1, ensure_ascii=False)
    write_durably(folder / PAGE, render(report, images).encode("utf-8", "replace"))
    write_durably(folder / JSON, (text + "\n").encode("utf-8", "replace"))
