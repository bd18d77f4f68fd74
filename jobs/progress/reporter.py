"""The reporter: a process beside the driver that writes what is going on. Run as `python -m jobs.progress.reporter`.

It reads lines of JSON from its standard input: first `settings`, then `figures` (sums so far), at last `end`. It runs
at the lowest priority, and holds nothing that grows with the run. When the pipe ends without an `end`, the driver was
killed: the last report then says so.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from jobs.progress.history import History
from jobs.progress.resources import Resources
from jobs.progress.sinks import Sink, TensorBoard, WandB
from jobs.report.run.running import write_running_report

SAMPLE_S = 2.0
"""Time between two looks at the machine."""
_SCALARS_S = 10.0
"""Time between two entries in TensorBoard and W&B."""


@dataclass(frozen=True)
class Settings:
    """What the driver asks for."""

    folder: str
    """`<output>/report`."""
    run: str
    """Name of this run's folder in TensorBoard."""
    title: dict[str, Any]
    """What the report says of the run itself: output, engine, options that matter."""
    report_every_s: float
    tensorboard: bool
    wandb_project: str


class Reporter:
    """Takes news, samples the machine, and writes when something is due."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._began = self._reported = self._sampled = self._logged = time.monotonic()
        self._resources = Resources()
        self._machine: dict[str, float] = {}
        self._history = History(SAMPLE_S)
        self._figures: dict[str, Any] | None = None
        self._sinks: list[Sink] = []
        if settings.tensorboard:
            self._sinks.append(TensorBoard(self._folder / "tensorboard" / settings.run))
        if settings.wandb_project:
            self._sinks.append(WandB(settings.wandb_project, self._folder, settings.title))

    def take(self, news: dict[str, Any]) -> None:
        self._figures = news.get("figures", self._figures)

    def look(self) -> None:
        """Sample, log and report as far as they are due."""
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_S:
            self._sample(now)
        if now - self._logged >= _SCALARS_S:
            self._log(now)
        if self._settings.report_every_s and now - self._reported >= self._settings.report_every_s:
            self._reported = now
            self._report("running")

    def end(self, state: str) -> None:
        """The last words. `state` is done, failed, or killed."""
        self._sample(time.monotonic())
        self._log(time.monotonic())
        self._report(state)
        for sink in self._sinks:
            sink.close()

    def _sample(self, now: float) -> None:
        self._sampled = now
        self._machine = self._resources.sample()
        self._history.add(now - self._began, {**self._machine, **rates(self._figures)})

    def _log(self, now: float) -> None:
        self._logged = now
        scalars = {f"machine/{name}": value for name, value in self._machine.items()} | scalars_of(self._figures)
        for sink in self._sinks:
            sink.write((self._figures or {}).get("rows_done", 0), time.time(), scalars)

    def _report(self, state: str) -> None:
        write_running_report(self._folder, state, self._settings.title, self._figures, self._history.columns())


def rates(figures: dict[str, Any] | None) -> dict[str, float]:
    """The figures that a history keeps."""
    if figures is None:
        return {"rate": 0.0, "bytes": 0.0, "kept_share": 0.0}
    done = figures["rows_done"]
    share = figures["kept"] / done if done else 0.0
    return {"rate": figures["rate_now"], "bytes": figures["bytes_now"], "kept_share": share}


def scalars_of(figures: dict[str, Any] | None) -> dict[str, float]:
    """The figures as TensorBoard and W&B name them."""
    if figures is None:
        return {}
    names = ("rows_done", "kept", "units_done", "units_failed", "requests", "n_bytes", "rate_now", "rate_mean")
    values = {f"run/{name}": float(figures[name]) for name in (*names, "bytes_now", "bytes_mean")}
    if figures["rows_done"]:
        values["run/kept_share"] = figures["kept"] / figures["rows_done"]
    if figures["left_s"] is not None:
        values["run/left_s"] = figures["left_s"]
    return values | {f"rejected/{reason}": float(n) for reason, n in figures["reasons"].items()}


def lines(handle: int) -> Iterator[dict[str, Any] | None]:
    """The lines that arrive, and None when none did for a while. Ends with the pipe, or with the parent."""
    parent, left = os.getppid(), b""
    while True:
        ready, _, _ = select.select([handle], [], [], SAMPLE_S / 2)
        if not ready:
            if os.getppid() != parent:
                return  # the driver is dead, and somebody else holds the pipe open
            yield None
            continue
        block = os.read(handle, 1 << 16)
        if not block:
            return
        *whole, left = (left + block).split(b"\n")
        yield from (json.loads(line) for line in whole)


def main() -> int:
    os.nice(19)
    with suppress(AttributeError, psutil.Error):  # no such thing on macOS
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Spark and batch systems stop all of a job: the pipe says when
    arriving = lines(sys.stdin.fileno())
    first = next((news for news in arriving if news), None)
    if first is None:
        return 0
    reporter = Reporter(Settings(**first["settings"]))
    state = "killed"
    for news in arriving:
        if news is not None:
            reporter.take(news)
            state = news.get("end", state)
        reporter.look()
    reporter.end(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
