"""The bar on a terminal; plain lines, few of them, where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

from jobs.progress.tally import Figures
from jobs.progress.words import duration, size

_TOP_REASONS = 3
_LINE_EVERY_S = 60.0
_LINE_EVERY_SHARE = 0.05


class Terminal:
    """Shows figures: a bar and a line of details on a terminal, otherwise a line for every twentieth or minute."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._bars: tuple[tqdm, tqdm] | None = None
        self._lined = (0.0, 0.0)  # when the last line was written, and the share done then

    def say(self, line: str) -> None:
        if self._bars is not None:
            self._bars[0].write(line, file=self._err)
        else:
            self._out.write(line + "\n")
            self._out.flush()

    def begin(self, rows: int) -> None:
        if self._err.isatty() and rows:
            shape = "{percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} rows  {desc}"
            known = os.get_terminal_size(self._err.fileno()).columns > 0  # some containers' terminals say 0
            width = {"dynamic_ncols": True} if known else {"ncols": 100}
            bar = tqdm(total=rows, file=self._err, bar_format=shape, position=0, **width)
            more = tqdm(total=0, file=self._err, bar_format="{desc}", position=1, **width)
            self._bars = (bar, more)

    def show(self, figures: Figures) -> None:
        """Draw the bar again, or write a line when one is due."""
        if self._bars is not None:
            bar, more = self._bars
            bar.n = figures.rows_done
            bar.set_description_str(speed(figures), refresh=False)
            more.set_description_str("     " + quality(figures), refresh=False)
            bar.refresh()
            more.refresh()
        elif figures.rows_done and self._line_is_due(figures):
            done = f"{figures.rows_done:,} of {figures.rows:,} rows"
            self.say(f"{done}, {speed(figures)}, {quality(figures)}")

    def end(self) -> None:
        if self._bars is not None:
            for bar in reversed(self._bars):
                bar.close()
            self._bars = None

    def _line_is_due(self, figures: Figures) -> bool:
        when, share = figures.elapsed_s, figures.rows_done / max(1, figures.rows)
        before, shared = self._lined
        if int(share / _LINE_EVERY_SHARE) == int(shared / _LINE_EVERY_SHARE) and when - before < _LINE_EVERY_S:
            return False
        self._lined = (when, share)
        return True


def speed(figures: Figures) -> str:
    """Rates and the time left, in a few words."""
    left = "" if figures.left_s is None else f", {duration(figures.left_s)} left"
    rates = f"{figures.rate_now:,.0f} rows/s (mean {figures.rate_mean:,.0f})"
    return f"{rates}, {size(figures.bytes_now)}/s{left}" if figures.n_bytes else f"{rates}{left}"


def quality(figures: Figures) -> str:
    """How many rows were kept, and the most frequent reasons why others were not."""
    if not figures.rows_done:
        return "no unit has reported yet"
    said = [f"kept {figures.kept / figures.rows_done:.1%}", *top_reasons(figures.reasons, figures.rows_done)]
    if figures.units_failed:
        said.append(f"{figures.units_failed} units failed for good")
    return ", ".join(said)


def top_reasons(reasons: Mapping[str, int], rows: int) -> list[str]:
    """The most frequent reasons with their share of the rows."""
    return [f"{reason} {n / rows:.1%}" for reason, n in list(reasons.items())[:_TOP_REASONS]]
