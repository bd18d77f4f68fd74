"""The figures at the end of an ingest, as a table for a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobs.layout import CATALOG, RUN_REPORT

if TYPE_CHECKING:
    from jobs.images.ingest import Summary


def summary_table(summary: Summary, output: Path) -> str:
    """What came of it, in lines."""
    rows = [("rows in", summary.rows_in), ("kept", summary.kept), ("rejected", sum(summary.rejected.values()))]
    rows += [(f"  {reason}", n) for reason, n in summary.rejected.items()]
    rows += [("without outcome", summary.pending)] if summary.pending else []
    rows += [("requests", summary.requests), ("  for denied rows", summary.requests_for_denied_rows)]
    lines = [f"{name:<22}{n:>10,}" for name, n in rows] + [f"{'seconds':<22}{summary.seconds['all']:>10.1f}"]
    places = (f"catalog in {output / CATALOG}", f"report in {output / RUN_REPORT / 'index.html'}", "")
    return "\n".join([*lines, *places])
