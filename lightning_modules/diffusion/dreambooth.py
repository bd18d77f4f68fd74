"""The LightningModule: DreamBooth with prior preservation, into LoRA layers (Ruiz et al., arXiv:2208.12242).

The base model is frozen; only LoRA layers have gradients, optimizer state and a place in checkpoints. Noise, timesteps
and the VAE's sample are functions of (seed, position), so that a step depends on nothing that a checkpoint could miss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import Tensor

from licet.errors import MismatchError, UsageError
from lightning_modules.adapters.lora import LoraShape, inject, trainable_parameters
from lightning_modules.data.collate import Batch
from lightning_modules.data.datamodule import require_same
from lightning_modules.data.order import random_seed_for, uniforms
from lightning_modules.diffusion.families.sd15 import load_family, weights_hash
from lightning_modules.diffusion.loss import PriorPreservationLoss, min_snr_weights, prior_preservation_loss

Schedule = Literal["constant", "linear", "cosine"]


class DreamBooth(pl.LightningModule):
    """Teaches a diffusion model one subject, under a rare token, without forgetting the subject's class."""

    def __init__(
        self,
        base: str = "tiny_sd",
        lora: LoraShape = LoraShape(),  # noqa: B008 - frozen
        train_text_encoder: bool = True,
        prior_loss_weight: float = 1.0,
        min_snr_gamma: float | None = None,
        learning_rate: float = 1e-4,
        text_learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        lr_schedule: Schedule = "constant",
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        """Load the base model and put the adapter in.

        Args:
            base: The base model: a diffusers folder, a shipped model's name (tiny_sd) or a hub id.
            lora: Size and places of the adapter.
            train_text_encoder: Whether the text encoder is adapted too.
            prior_loss_weight: Weight of the class images' loss; 0 trains without class images.
            min_snr_gamma: Weighs timesteps by min-SNR with this gamma (5 is usual); none weighs them alike.
            learning_rate: Peak rate of the UNet's adapter.
            text_learning_rate: Peak rate of the text encoder's adapter; the same by default.
            weight_decay: AdamW's decay of adapter weights.
            lr_schedule: What follows the warm-up: the peak rate, or a line or half a cosine down to 0.
            warmup_steps: Optimizer steps in which the rate rises to its peak.
            schedule_steps: Optimizer steps until the rate is 0; trainer.max_steps by default.
            seed: First adapter weights, noise and timesteps are functions of it. Linked to data.seed.
        """
        super().__init__()
        self.base, self.shape, self.train_text_encoder = base, lora, train_text_encoder
        self.prior_loss_weight, self.min_snr_gamma, self.seed = prior_loss_weight, min_snr_gamma, seed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.text_learning_rate = learning_rate if text_learning_rate is None else text_learning_rate
        self.lr_schedule, self.warmup_steps, self.schedule_steps = lr_schedule, warmup_steps, schedule_steps
        self.family = load_family(base)
        self.base_hash = weights_hash(base)
        inject(self.family, lora, train_text_encoder, seed=random_seed_for(seed, 0, "first adapter weights"))
        self.strict_loading = False  # checkpoints hold no frozen weights; `on_load_checkpoint` is stricter
        self._losses: list[PriorPreservationLoss] = []
        self._gradient_norm: Tensor | None = None
        self._loss_to_show: float | None = None
        self._steps_seen = 0

    # --- one step -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Instance and class images in one forward pass."""
        with self._dropout_by_position(batch):
            loss = self.loss(batch, purpose="train")
        self._losses.append(PriorPreservationLoss(*(term.detach() for term in loss)))
        return loss.total

    def loss(self, batch: Batch, purpose: str) -> PriorPreservationLoss:
        """The loss on a batch, with the noise and timesteps that belong to its positions and the purpose."""
        model, pixels = self.family, batch["pixels"]
        shape = model.latent_shape(pixels.shape[2], pixels.shape[3])
        noise, posterior_noise, timesteps = self._draw(batch, shape, purpose)
        with torch.no_grad():
            latents = model.encode_image(pixels, posterior_noise)
            noisy = model.add_noise(latents, noise, timesteps)
            target = model.target(latents, noise, timesteps)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_text_encoder):
            text = model.encode_tokens(batch["tokens"])
        weights = None
        if self.min_snr_gamma is not None:
            weights = min_snr_weights(model.snr(timesteps), self.min_snr_gamma, model.scheduler.config.prediction_type)
        is_prior = batch["is_prior"].to(self.device, non_blocking=True)
        prediction = model.predict(noisy, timesteps, text)
        return prior_preservation_loss(prediction, target, is_prior, self.prior_loss_weight, weights)

    def _draw(self, batch: Batch, shape: tuple[int, int, int], purpose: str) -> tuple[Tensor, Tensor, Tensor]:
        """Noise and the VAE's noise, (B, C, h, w) each, and timesteps (B,): drawn on the host, by position and half."""
        n_timesteps = self.family.scheduler.config.num_train_timesteps
        noises, timesteps = [], []
        for position, is_prior in zip(batch["positions"].tolist(), batch["is_prior"].tolist(), strict=True):
            name = f"{purpose} {'prior' if is_prior else 'instance'}"
            generator = torch.Generator().manual_seed(random_seed_for(self.seed, position, f"{name} noise"))
            noises.append(torch.randn((2, *shape), generator=generator))
            timesteps.append(int(uniforms(self.seed, position, f"{name} timestep", 1)[0] * n_timesteps))
        noise, posterior_noise = torch.stack(noises, 1).to(self.device, non_blocking=True)
        return noise, posterior_noise, torch.tensor(timesteps).to(self.device, non_blocking=True)

    @contextmanager
    def _dropout_by_position(self, batch: Batch) -> Iterator[None]:
        """LoRA dropout takes torch's global state: lend it one that belongs to the step."""
        if not self.shape.dropout:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(random_seed_for(self.seed, int(batch["positions"][0]), "dropout"))
            yield

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The instance loss on rows that training sees, with noise and timesteps that never change."""
        self.log("val/loss", self.loss(batch, "validate").instance, batch_size=len(batch["keys"]))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on held-out rows."""
        self.log("test/loss", self.loss(batch, "validate").instance, batch_size=len(batch["keys"]))

    # --- the optimizer ------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW over LoRA weights alone, and the schedule in optimizer steps."""
        groups = [
            {"params": list(trainable_parameters(network).values()), "lr": rate}
            for network, rate in (
                (self.family.unet, self.learning_rate),
                (self.family.text_encoder, self.text_learning_rate),
            )
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=self.weight_decay)
        factor = schedule_factor(self.lr_schedule, self.warmup_steps, self._schedule_steps())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer says, and keep the norm from before, which clipping computes anyway."""
        if gradient_clip_val is not None and gradient_clip_algorithm in (None, "norm"):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._gradient_norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._gradient_norm = torch.nn.utils.get_total_norm(gradients)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _schedule_steps(self) -> int | None:
        # trainer.estimated_stepping_batches would build the loaders here, and drop their restored state
        steps = self.trainer.max_steps if self.schedule_steps is None else self.schedule_steps
        return None if steps < 0 else steps

    # --- what is logged -----------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Count from where a checkpoint left off."""
        self._steps_seen, self._losses = self.trainer.global_step, []

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the step, unless a checkpoint asked for it already, and show its loss."""
        self._log_step()
        if self._loss_to_show is not None:
            self.log("loss", self._loss_to_show, prog_bar=True, logger=False)
            self._loss_to_show = None

    def _log_step(self) -> None:
        """Log an optimizer step that is due, once, under the number of steps done; values are read back once."""
        step = self.trainer.global_step
        if step == self._steps_seen:
            return  # gradients accumulate
        self._steps_seen = step
        losses, self._losses = self._losses, []
        if step % self.trainer.log_every_n_steps and step != self.trainer.max_steps:
            return
        terms = torch.stack([torch.stack(tuple(loss)) for loss in losses]).mean(0)
        assert self._gradient_norm is not None
        total, instance, prior, norm = torch.cat([terms, self._gradient_norm.reshape(1)]).tolist()
        scalars = {"train/loss": total, "train/loss_instance": instance, "train/gradient_norm": norm}
        if self.prior_loss_weight:
            scalars["train/loss_prior"] = prior
        # The rate that this step used: the scheduler has moved on already.
        used = schedule_factor(self.lr_schedule, self.warmup_steps, self._schedule_steps())(step - 1)
        scalars["train/learning_rate"] = self.learning_rate * used
        self._loss_to_show = total
        # Not by self.log: Lightning's own step count is one off after a checkpoint that an exception caused.
        for logger in self.loggers:
            assert isinstance(logger, Logger)
            logger.log_metrics(scalars, step=step)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def configuration(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that goes on from it. Plain types only."""
        return {
            "base_weights": self.base_hash,
            "lora_rank": self.shape.rank,
            "lora_alpha": float(self.shape.alpha),
            "lora_dropout": self.shape.dropout,
            "lora_unet_targets": list(self.shape.unet_targets),
            "lora_text_targets": list(self.shape.text_targets) if self.train_text_encoder else [],
            "prior_loss_weight": self.prior_loss_weight,
            "min_snr_gamma": self.min_snr_gamma,
            "learning_rate": self.learning_rate,
            "text_learning_rate": self.text_learning_rate,
            "weight_decay": self.weight_decay,
            "lr_schedule": self.lr_schedule,
            "warmup_steps": self.warmup_steps,
            "schedule_steps": None if self.lr_schedule == "constant" else self._schedule_steps(),
            "seed": self.seed,
            "gradient_clip_val": self.trainer.gradient_clip_val,
            "precision": str(self.trainer.precision),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep trainable weights only, and say what they belong to. A checkpoint is never ahead of the log."""
        self._log_step()
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
        trainable = trainable_parameters(self)
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in trainable}
        checkpoint["licet_configuration"] = self.configuration()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `MismatchError` for a checkpoint of another configuration, with the difference."""
        if "licet_configuration" not in checkpoint:
            raise MismatchError("the checkpoint was not written by licet: it does not say what it belongs to.")
        stored, current = checkpoint["licet_configuration"], self.configuration()
        if self.trainer.state.fn != "fit":  # how it was optimised does not matter to what it is
            stored, current = _shape_of(stored), _shape_of(current)
        require_same(stored, current, "the model")
        different = checkpoint["state_dict"].keys() ^ trainable_parameters(self).keys()
        if different:
            raise MismatchError(
                f"the checkpoint's weights are not this adapter's: {', '.join(sorted(different)[:3])} …"
            )


def _shape_of(configuration: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in configuration.items() if name == "base_weights" or name.startswith("lora_")}


def schedule_factor(schedule: Schedule, warmup_steps: int, total_steps: int | None) -> Callable[[int], float]:
    """The learning rate's factor as a function of optimizer steps done before.

    Raises `UsageError` where a falling schedule has no end.
    """
    if schedule != "constant" and (total_steps is None or total_steps <= warmup_steps):
        raise UsageError(
            f"a {schedule} schedule falls to 0 at some step after {warmup_steps} of warm-up: set model.schedule_steps "
            "or trainer.max_steps."
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if schedule == "constant" or total_steps is None:
            return 1.0
        done = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))

    return factor
