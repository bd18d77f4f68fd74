"""Checkpoints that are whole or absent: written beside their place, fsynced, renamed; read without unpickling code.

AtomicCheckpointIO          how one checkpoint is written and read (a Lightning plugin)
Checkpoints                 when: every N optimizer steps, at the end, on SIGTERM and when training fails
newest_checkpoint(folder)   the one to go on from
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from licet.errors import DamagedError, UsageError
from licet.shards.index import fsync_folder

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
_NAME = re.compile(r"^step=(\d{8})\.ckpt$")
_PARTIAL = ".partial"


class AtomicCheckpointIO(CheckpointIO):
    """One file per checkpoint, visible under its name only when every byte is on disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write, fsync, rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        fsync_folder(str(path.parent))

    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, **_: Any) -> dict[str, Any]:
        """Read tensors and plain types, nothing else.

        Raises `UsageError` when there is no file, `DamagedError` when it is not a whole checkpoint.
        """
        try:
            with zipfile.ZipFile(path) as archive:  # torch compares the checksums of small records only
                if (broken := archive.testzip()) is not None:
                    raise DamagedError(f"checkpoint {path} is damaged: {broken} fails its checksum. {_REMEDY}")
            loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UsageError(f"there is no checkpoint at {path}.") from error
        except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise DamagedError(f"checkpoint {path} cannot be read: {reason}. {_REMEDY}") from error
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


_REMEDY = "Delete it to go on from the one before."


class Checkpoints(Checkpoint):
    """Saves while training runs, and once more when it ends or is interrupted between two steps."""

    def __init__(self, every_n_steps: int = 50, keep_last: int = 2) -> None:
        """Checkpoints lie in <run>/checkpoints.

        Args:
            every_n_steps: Optimizer steps between two checkpoints.
            keep_last: How many are kept.
        """
        super().__init__()
        if every_n_steps < 1 or keep_last < 1:
            raise UsageError(f"checkpoint every {every_n_steps} steps, keep {keep_last}: expected at least 1 of each.")
        self.every_n_steps, self.keep_last = every_n_steps, keep_last
        self._saved_at = 0
        self._seen_at = 0
        self._whole_step = False
        """Whether weights, optimizer and position are those of one finished optimizer step."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where the run starts; clear away what a killed run left half written, and set aside what is ahead."""
        self._saved_at = self._seen_at = trainer.global_step
        self._whole_step = False
        if trainer.is_global_zero:
            for partial in folder_of(trainer).glob(f".*{_PARTIAL}"):
                partial.unlink()
            for ahead in _checkpoints(folder_of(trainer)):
                if step_of(ahead) > trainer.global_step:  # damaged, or of a run that took another turn
                    log.warning("%s is ahead of this run: kept as %s.old", ahead, ahead.name)
                    ahead.rename(f"{ahead}.old")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """From here to the end of the batch nothing may be saved."""
        self._whole_step = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        step = trainer.global_step
        self._whole_step = step > self._seen_at
        self._seen_at = step
        if self._whole_step and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where max_epochs ended a run."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save the last finished step when training is interrupted or fails: SIGTERM and Ctrl-C come here too."""
        if self._whole_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if step <= self._saved_at:
            return
        folder = folder_of(trainer)
        trainer.save_checkpoint(folder / f"step={step:08d}.ckpt")
        self._saved_at = step
        if trainer.is_global_zero:
            for old in _checkpoints(folder)[self.keep_last :]:
                trainer.strategy.remove_checkpoint(old)


def folder_of(trainer: pl.Trainer) -> Path:
    """Where a run's checkpoints lie."""
    return Path(trainer.default_root_dir) / FOLDER


def newest_checkpoint(run: str | Path) -> Path | None:
    """The newest whole checkpoint of a run, none where it has none. A damaged one is passed over, with a warning.

    Raises `DamagedError` when there are checkpoints and none can be read.
    """
    found = _checkpoints(Path(run) / FOLDER)
    for path in found:
        try:
            AtomicCheckpointIO().load_checkpoint(path)
            return path
        except DamagedError as error:
            log.warning("%s", error)
    if found:
        raise DamagedError(f"no checkpoint in {found[0].parent} can be read: train anew with --resume never.")
    return None


def step_of(checkpoint: Path) -> int:
    """Optimizer steps that were done when a checkpoint was written, by its name; 0 for other names."""
    match = _NAME.match(checkpoint.name)
    return int(match.group(1)) if match else 0


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.match(p.name)), reverse=True)
