"""Grids of samples in TensorBoard: fixed prompts and seeds, so that two steps can be compared image by image.

Sampling draws from generators of its own: it changes neither training's random state nor its losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lightning_modules.diffusion.dreambooth import DreamBooth


class SampleGrids(pl.Callback):
    """One grid for each prompt, at the start, every N optimizer steps and at the end."""

    def __init__(
        self,
        prompts: list[str] | None = None,
        images_per_prompt: int = 4,
        every_n_steps: int = 100,
        sampling_steps: int = 25,
        guidance_scale: float = 5.0,
        seed: int = 0,
    ) -> None:
        """Grids go to every TensorBoard logger under samples/<prompt>.

        Args:
            prompts: What to draw; the instance and the class prompt by default; an empty list draws nothing.
            images_per_prompt: Images in a grid.
            every_n_steps: Optimizer steps between two grids.
            sampling_steps: DDIM steps of an image.
            guidance_scale: Classifier-free guidance; 1 is none.
            seed: Image i of a grid starts from seed + i.
        """
        self.prompts, self.images_per_prompt, self.every_n_steps = prompts, images_per_prompt, every_n_steps
        self.sampling_steps, self.guidance_scale, self.seed = sampling_steps, guidance_scale, seed
        self._drawn_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: DreamBooth) -> None:
        """The base model's images."""
        if trainer.global_step == 0:
            self._draw(trainer, pl_module)
        self._drawn_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: DreamBooth, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Images on the way."""
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._drawn_at:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: DreamBooth) -> None:
        """The trained adapter's images."""
        if trainer.global_step != self._drawn_at:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, module: DreamBooth) -> None:
        self._drawn_at = trainer.global_step
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not boards:
            return
        seeds = [self.seed + i for i in range(self.images_per_prompt)]
        size_px = trainer.datamodule.view.size_px
        for prompt in self._prompts(trainer):
            images = module.family.sample(
                [prompt] * len(seeds),
                seeds=seeds,
                steps=self.sampling_steps,
                guidance_scale=self.guidance_scale,
                height_px=size_px,
                width_px=size_px,
            )
            for board in boards:
                board.experiment.add_image(
                    f"samples/{prompt}", grid(images).numpy(), trainer.global_step, dataformats="HWC"
                )

    def _prompts(self, trainer: pl.Trainer) -> Sequence[str]:
        if self.prompts is not None:
            return self.prompts
        data = trainer.datamodule
        return [prompt for prompt in (data.instance_prompt, data.class_prompt) if prompt]


def grid(images: Tensor, gap_px: int = 2) -> Tensor:
    """Images (B, H, W, 3) uint8 side by side in rows of four at most, with white gaps: (H', W', 3) uint8."""
    columns = min(4, len(images))
    blank = torch.full_like(images[:1], 255)
    images = torch.cat([images, blank.expand(-len(images) % columns, -1, -1, -1)])
    padded = torch.nn.functional.pad(images, (0, 0, 0, gap_px, 0, gap_px), value=255)
    rows = [torch.cat(list(row), dim=1) for row in padded.split(columns)]
    return torch.cat(rows)[:-gap_px, :-gap_px]
