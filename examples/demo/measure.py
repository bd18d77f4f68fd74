"""What the demo measures from outside: memory of its processes, and losses as TensorBoard stored them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType

import psutil
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# A killed run's last steps are repeated by the run that goes on: TensorBoard would say so at length.
logging.getLogger("tensorboard").setLevel(logging.ERROR)

LOSSES = ("train/loss", "train/loss_instance", "train/loss_prior")


class PeakMemory:
    """Samples, twice a second, the resident memory of this process and all its descendants, summed."""

    def __init__(self, interval_s: float = 0.5) -> None:
        self.peak_bytes = 0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(self._interval_s):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)


def losses_by_step(run: Path) -> dict[int, tuple[float, ...]]:
    """Step -> its losses, over all event files below a run; a step that was repeated counts with its last value."""
    losses: dict[int, tuple[float, ...]] = {}
    for folder in sorted({p.parent for p in run.rglob("events.out.tfevents.*")}):
        accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        if not set(LOSSES) <= set(accumulator.Tags()["scalars"]):
            continue
        columns = [accumulator.Scalars(tag) for tag in LOSSES]
        for events in zip(*columns, strict=False):
            losses[events[0].step] = tuple(event.value for event in events)
    return losses
