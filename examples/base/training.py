"""What both training phases share: a learning-rate curve, draws that depend on (seed, step) alone, and checkpoints.

Nothing here keeps a generator's state: a resumed run draws at step n what the uninterrupted run drew at step n.
"""

import math
import os
import time
from pathlib import Path
from typing import Any

import torch


def one_cycle(step: int, n_steps: int, peak: float) -> float:
    """Learning rate at `step`: linear warm-up over the first 5 %, then half a cosine down to 1 % of `peak`."""
    warm = max(1, n_steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm))))


def cycles(step: int, lengths: list[int], peak: float) -> float:
    """Learning rate at `step` of one cycle after another (Loshchilov and Hutter, 2017, arXiv:1608.03983)."""
    for length in lengths[:-1]:
        if step < length:
            return one_cycle(step, length, peak)
        step -= length
    return one_cycle(step, lengths[-1], peak)


def generator_at(seed: int, phase: int, step: int) -> torch.Generator:
    """A generator for one step of one phase; steps must be below 2**32."""
    return torch.Generator().manual_seed((seed << 40) + (phase << 36) + step)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that a kill leaves the old checkpoint or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state last saved at `path`, or None when there is none."""
    return torch.load(path, weights_only=True) if path.exists() else None


class LossLog:
    """Averages a loss over LOG_EVERY steps at a time, prints a line for each, and keeps the lines as data."""

    LOG_EVERY = 100

    def __init__(self, name: str, n_steps: int) -> None:
        self.name, self.n_steps = name, n_steps
        self.lines: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._since = time.monotonic()

    @property
    def next_step(self) -> int:
        """The step after the last one in a line: where a resumed run goes on, since checkpoints come with lines."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    def add(self, step: int, loss: float) -> bool:
        """Take the loss of `step` (counted from 0); True when a line was written: the time for a checkpoint."""
        self._losses.append(loss)
        if (step + 1) % self.LOG_EVERY and step + 1 != self.n_steps:
            return False
        mean, seconds = sum(self._losses) / len(self._losses), time.monotonic() - self._since
        self.lines.append({"step": step + 1, "loss": round(mean, 4), "seconds": round(seconds, 1)})
        pace = seconds / len(self._losses)
        print(f"{self.name} step {step + 1}/{self.n_steps}  loss {mean:.4f}  {pace:.3f} s/step", flush=True)  # noqa: T201
        self._losses, self._since = [], time.monotonic()
        return True
