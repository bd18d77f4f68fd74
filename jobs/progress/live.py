"""What the ingest tells of itself: summed up, drawn on the terminal, and handed to the reporter."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from jobs.layout import RUN_REPORT
from jobs.progress.feed import Feed
from jobs.progress.options import ProgressOptions
from jobs.progress.sinks import require
from jobs.progress.tally import Figures, Tally
from jobs.progress.terminal import Terminal

_REDRAW_S = 1.0


class LiveProgress:
    """Progress: as a context it starts a reporter and stops it. A thread redraws it while no unit reports."""

    def __init__(self, output: Path, options: ProgressOptions, title: Mapping[str, Any]) -> None:
        """Raises `UsageError` when a library that the options ask for is not installed."""
        require(options.tensorboard, bool(options.wandb_project))
        self._folder, self._options, self._title = output / RUN_REPORT, options, dict(title)
        self._tally, self._terminal = Tally(), Terminal()
        self._feed: Feed | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._redraw, name="licet-progress", daemon=True)

    def __enter__(self) -> LiveProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end("done" if kind is None else "failed")

    def say(self, line: str) -> None:
        """Something happened."""
        with self._lock:
            self._terminal.say(line)

    def begin(self, units: int, rows: int) -> None:
        """So many units of so many rows are to be run."""
        run = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        settings = {"folder": str(self._folder), "run": f"{run}-{os.getpid()}", "title": self._title}
        asked = {name: getattr(self._options, name) for name in ("report_every_s", "tensorboard", "wandb_project")}
        with self._lock:
            self._tally.begin(units, rows)
            self._terminal.begin(rows)
            if units:
                self._feed = Feed({**settings, **asked}, self._folder / "reporter.log")
        if units:
            self._clock.start()

    def advance(self, report: Mapping[str, Any]) -> None:
        """One unit is done: its report."""
        with self._lock:
            self._tally.add(report)

    def failed(self, unit_id: str, error: str) -> None:
        """One unit failed for good."""
        with self._lock:
            self._terminal.say(f"unit {unit_id} failed for good: {error}")
            self._tally.fail(unit_id, error)

    def figures(self) -> Figures:
        """How far it is."""
        with self._lock:
            return self._tally.figures()

    @property
    def reporter_pid(self) -> int | None:
        """Process id of the reporter, while there is one."""
        return None if self._feed is None else self._feed.process.pid

    def end(self, state: str = "done") -> None:
        """Nothing follows: the first call counts. The reporter writes its last report and ends."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._clock.is_alive():
            self._clock.join()
        if self._clock.ident is not None:
            self._show()
        self._terminal.end()
        if self._feed is not None:
            self._feed.close({"figures": asdict(self._tally.figures()), "end": state})
            self._feed = None

    def _redraw(self) -> None:
        while not self._ended.wait(_REDRAW_S):
            with self._lock:
                figures = self._show()
            if self._feed is not None:
                self._feed.send({"figures": asdict(figures)})

    def _show(self) -> Figures:
        figures = self._tally.figures()
        self._terminal.show(figures)
        return figures
