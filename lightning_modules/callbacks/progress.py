"""Progress for people: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class ProgressLines(pl.Callback):
    """Logs step, loss and pace at most once in ten seconds, and at the end."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self._first = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where training stands."""
        if time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._say(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where it ended."""
        self._say(trainer)

    def _say(self, trainer: pl.Trainer) -> None:
        self._said = time.monotonic()
        step = trainer.global_step
        pace_s = (self._said - self._started) / max(1, step - self._first)
        loss = trainer.progress_bar_metrics.get("loss")
        total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        shown = f", loss {loss:.4f}" if loss is not None else ""
        log.info("step %d%s%s, %.2f s a step", step, total, shown, pace_s)


def progress_callback() -> pl.Callback:
    """What suits where standard error goes."""
    return TQDMProgressBar(refresh_rate=10) if sys.stderr.isatty() else ProgressLines()
