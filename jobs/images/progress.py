"""What a person sees of an ingest: progress while it runs, the figures at its end. It decides nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from jobs.images.ingest import Summary


class ProgressLines:
    """Progress: a bar on a terminal, a plain line for every twentieth of the units elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._units = self._done = self._rows = 0

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def begin(self, units: int) -> None:
        self._units = units
        if sys.stderr.isatty() and units:
            self._bar = tqdm(total=units, unit="unit")

    def advance(self, rows: int) -> None:
        self._done, self._rows = self._done + 1, self._rows + rows
        if self._bar is not None:
            self._bar.update()
        elif self._done * 20 // self._units > (self._done - 1) * 20 // self._units:
            self.say(f"{self._done} of {self._units} units, {self._rows} rows")

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def summary_table(summary: Summary, output: Path) -> str:
    """The figures, for a person."""
    rows = [("rows in", summary.rows_in), ("kept", summary.kept), ("rejected", sum(summary.rejected.values()))]
    rows += [(f"  {reason}", n) for reason, n in summary.rejected.items()]
    rows += [("without outcome", summary.pending)] if summary.pending else []
    rows += [("requests", summary.requests), ("  for denied rows", summary.requests_for_denied_rows)]
    lines = [f"{name:<22}{n:>10,}" for name, n in rows] + [f"{'seconds':<22}{summary.seconds['all']:>10.1f}"]
    return "\n".join([*lines, f"catalog in {output / 'catalog'}", ""])
