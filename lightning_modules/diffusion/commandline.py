"""The training command line: LightningCLI with the project's links, defaults, logger and resume rule.

It connects the parts and decides nothing about training. It is not in `lightning_modules/train.py` because entry files
define no classes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from licet.errors import UsageError
from lightning_modules.callbacks.checkpoint import FOLDER, AtomicCheckpointIO, Checkpoints, newest_checkpoint, step_of
from lightning_modules.callbacks.prior_images import PriorImages
from lightning_modules.callbacks.progress import progress_callback
from lightning_modules.callbacks.provenance import Provenance
from lightning_modules.callbacks.samples import SampleGrids
from lightning_modules.data.datamodule import PairData
from lightning_modules.diffusion.dreambooth import DreamBooth
from lightning_modules.diffusion.process import quiet_libraries

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "deterministic": True,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
FLUSH_S = 2


class TrainingCLI(LightningCLI):
    """fit, validate and test of `DreamBooth` on `PairData`."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.resumed_from: Path | None = None
        super().__init__(
            DreamBooth,
            PairData,
            args=list(arguments),
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands without predict, and without its own way to name a checkpoint: see --resume."""
        ours = {"ckpt_path", "weights_only"}
        return {name: skip | ours for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Sections of our own, and values that are given once."""
        parser.add_argument("--run", type=str, default="runs/dreambooth", help="Folder for all that a run writes.")
        parser.add_argument(
            "--resume",
            type=str,
            default="auto",
            help="auto goes on from the newest whole checkpoint of the run, never starts anew; or a checkpoint's path.",
        )
        parser.add_argument(
            "--threads", type=int | None, default=None, help="Torch's threads; as torch has it if none."
        )
        for key, callback in (
            ("checkpoint", Checkpoints),
            ("samples", SampleGrids),
            ("prior", PriorImages),
            ("provenance", Provenance),
        ):
            parser.add_lightning_class_args(callback, key)
        parser.link_arguments("run", "trainer.default_root_dir")
        parser.link_arguments("model.base", "data.base")
        parser.link_arguments("data.seed", "model.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """As Lightning does, without its warning about arguments that are given in code."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Settle threads and what to go on from, before anything is loaded."""
        if (threads := self._get(self.config, "threads")) is not None:
            if threads < 1:
                raise UsageError(f"--threads {threads}: expected at least 1.")
            torch.set_num_threads(threads)
        run, resume = Path(self._get(self.config, "run")), self._get(self.config, "resume")
        if resume == "auto":
            self.resumed_from = newest_checkpoint(run)
        elif resume != "never":
            self.resumed_from = Path(resume)
            if not self.resumed_from.is_file():
                raise UsageError(
                    f"--resume {resume}: expected auto, never or a checkpoint's path; there is no such file."
                )
        elif self.subcommand == "fit":
            _set_aside(run / FOLDER)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Lightning's trainer with our logger, checkpoint format and progress."""
        trainer = self._get(self.config_init, "trainer")
        plugins = trainer.get("plugins") or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        if trainer.get("logger") in (None, True):
            kwargs["logger"] = self._logger(Path(trainer["default_root_dir"]))
        kwargs["callbacks"] = [*(trainer.get("callbacks") or [])]
        if trainer.get("enable_progress_bar") is not False:
            progress = progress_callback()
            kwargs["callbacks"].append(progress)
            kwargs["enable_progress_bar"] = isinstance(progress, pl.callbacks.ProgressBar)
        return super().instantiate_trainer(**kwargs)

    def _logger(self, run: Path) -> TensorBoardLogger:
        # Steps after the checkpoint will be logged again: TensorBoard drops what the killed run logged of them.
        fit = self.subcommand == "fit" and self.resumed_from is not None
        purge = {"purge_step": step_of(self.resumed_from) + 1} if fit else {}
        return TensorBoardLogger(
            str(run), name="", version="tensorboard", default_hp_metric=False, flush_secs=FLUSH_S, **purge
        )

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        path = None if self.resumed_from is None else str(self.resumed_from)
        return {**super()._prepare_subcommand_kwargs(subcommand), "ckpt_path": path, "weights_only": True}


def prepare_process() -> None:
    """Settings of a whole process, which only an entry point may make."""
    quiet_libraries()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("lightning_modules").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own use of it
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"pytorch_lightning\.")


def _set_aside(folder: Path) -> None:
    """Keep an earlier run's checkpoints under another name."""
    if folder.exists():
        number = 1
        while (old := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(old)
