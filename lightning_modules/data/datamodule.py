"""The LightningDataModule: a manifest, a selection of it, and where in the stream the trainer stands.

It reads manifests and shards and refuses what was not published for its purpose. It knows nothing of diffusion but the
tokenizer that goes with the base model.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Subset

from licet.errors import MismatchError, UsageError
from licet.manifest import read_manifest
from licet.policy import Purpose
from licet.selection import Where, read_selection, select
from licet.shards import ShardFormat
from lightning_modules.data.collate import Batch, collate
from lightning_modules.data.stream import EpochBatches, Failure, Half, PairStream, Part, PositionBatches, Rows, View
from lightning_modules.diffusion.families.sd15 import load_tokenizer, tokenize


class PairData(pl.LightningDataModule):
    """Pairs of an instance image and a class image, streamed from shards in an order that is a function of the seed."""

    def __init__(
        self,
        manifest: str,
        instance_prompt: str,
        class_prompt: str = "",
        base: str = "tiny_sd",
        purpose: Literal["research", "commercial-training", "redistribution"] = "commercial-training",
        format: ShardFormat | None = None,
        sources: list[str] | None = None,
        licences: list[str] | None = None,
        languages: list[str] | None = None,
        selection_file: str | None = None,
        prior_manifest: str | None = None,
        prior_sources: list[str] | None = None,
        test_sources: list[str] | None = None,
        test_selection_file: str | None = None,
        seed: int = 0,
        batch_size: int = 4,
        positions_per_epoch: int | None = None,
        size_px: int = 64,
        crop: Literal["center", "random"] = "center",
        crop_scale: tuple[float, float] = (1.0, 1.0),
        flip_probability: float = 0.0,
        num_workers: int = 1,
        prefetch_batches: int = 4,
    ) -> None:
        """Nothing is opened before `setup`.

        Args:
            manifest: What may be read: the manifest.json that `licet publish` wrote.
            instance_prompt: Describes the subject's images, with its rare token: "a photo of sks cat".
            class_prompt: Describes class images, without the token: "a photo of a cat".
            base: The base model, for its tokenizer: a diffusers folder, a shipped model's name or a hub id.
            purpose: What the adapter is for. The manifest must have been published for it.
            format: Which shards to read, where the manifest has several; its first by default.
            sources: Only rows of these sources; every source by default.
            licences: Only rows with these SPDX expressions.
            languages: Only rows in these languages.
            selection_file: A selection that was written to a file, in place of the three above.
            prior_manifest: Where ingested class images are read from, if any; it may be the same manifest.
            prior_sources: Only rows of these sources as class images.
            test_sources: Held-out rows for `test`, by source.
            test_selection_file: Held-out rows for `test`, by a selection that was written to a file.
            seed: Order, crops, flips, noise and timesteps are functions of it and the position.
            batch_size: Pairs in a step of one process: with class images, each counts two images.
            positions_per_epoch: Pairs in an epoch, a multiple of the batch; none means one epoch until max_steps.
            size_px: Side of the square that the model sees.
            crop: Where the square is cut out.
            crop_scale: Range of the square's side as a share of the image's shorter side.
            flip_probability: How often an image is mirrored.
            num_workers: Processes that decode; 0 decodes between steps.
            prefetch_batches: Batches that each worker keeps ready.
        """
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: expected at least 1.")
        self.manifest_path, self.purpose, self.format = manifest, Purpose(purpose), format
        self.where = Where(tuple(sources or ()), tuple(licences or ()), tuple(languages or ()))
        self.selection_file = selection_file
        self.prior_manifest, self.prior_sources = prior_manifest, tuple(prior_sources or ())
        self.test_sources, self.test_selection_file = tuple(test_sources or ()), test_selection_file
        self.instance_prompt, self.class_prompt, self.base, self.seed = instance_prompt, class_prompt, base, seed
        self.batch_size, self.positions_per_epoch = batch_size, positions_per_epoch
        self.view = View(size_px, crop, tuple(crop_scale), flip_probability)
        self.num_workers, self.prefetch_batches = num_workers, prefetch_batches
        self.instance: Part | None = None
        self.prior: list[Part] = []
        self._restored = 0

    # --- what is read -------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Open the manifests and make the selections.

        Raises `PolicyRefusedError` for a manifest of another purpose, `UsageError` where nothing matches.
        """
        if self.instance is None:
            self.instance = self._part(self.manifest_path, self.where, self.selection_file)
            if self.prior_manifest:
                self.prior.append(self._part(self.prior_manifest, Where(sources=self.prior_sources)))

    def add_prior(self, manifest: str | Path) -> None:
        """Take every row of a further manifest as class images: those that were generated for this run."""
        self.prior.append(self._part(str(manifest), Where()))

    @property
    def n_prior(self) -> int:
        """Class images at hand."""
        return sum(len(part.selection) for part in self.prior)

    def parts(self) -> list[Part]:
        """Every manifest that training reads, the subject's first."""
        assert self.instance is not None, "setup() comes first"
        return [self.instance, *self.prior]

    def _part(self, path: str, where: Where, selection_file: str | None = None) -> Part:
        manifest = read_manifest(path)
        manifest.require_purpose(self.purpose)
        if selection_file is None:
            return Part(manifest, select(manifest, where))
        if where != Where():
            raise UsageError("give a selection file, or sources, licences and languages: not both.")
        return Part(manifest, read_selection(selection_file, manifest))

    def _stream(self, instance: Part, prior: list[Part], view: View) -> PairStream:
        tokens = tokenize(load_tokenizer(self.base), [self.instance_prompt, self.class_prompt])
        class_half = Half(Rows(prior), tokens[1]) if prior else None
        return PairStream(Half(Rows([instance], self.format), tokens[0]), class_half, self.seed, view)

    # --- loaders ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch | Failure]:
        """Batches from where the trainer stands."""
        trainer, per_epoch = self.trainer, self.positions_per_epoch
        world = trainer.world_size if trainer else 1
        stride = self.batch_size * world * (trainer.accumulate_grad_batches if trainer else 1)
        if per_epoch is not None and (per_epoch < 1 or per_epoch % stride):
            raise UsageError(
                f"positions_per_epoch {per_epoch}: expected a multiple of {stride}, the pairs of an optimizer step."
            )
        if per_epoch is None and trainer is not None and trainer.max_steps < 0:
            raise UsageError("an endless epoch needs an end: set trainer.max_steps, or data.positions_per_epoch.")
        kind = PositionBatches if per_epoch is None else EpochBatches
        batches = kind(
            self.batch_size,
            self.positions_consumed,
            per_epoch,
            rank=trainer.global_rank if trainer else 0,
            world_size=world,
        )
        return self._loader(self._stream(self.parts()[0], self.prior, self.view), batches, pin=True)

    def val_dataloader(self) -> DataLoader[Batch | Failure]:
        """Each selected row once, centre crop, with noise and timesteps that are the same each time."""
        return self._evaluation(self.parts()[0])

    def test_dataloader(self) -> DataLoader[Batch | Failure]:
        """The held-out rows, as `val_dataloader` gives the selected ones. Raises `UsageError` where none were named."""
        if not self.test_sources and self.test_selection_file is None:
            raise UsageError("test needs held-out rows: set data.test_sources or data.test_selection_file.")
        return self._evaluation(
            self._part(self.manifest_path, Where(sources=self.test_sources), self.test_selection_file)
        )

    def _evaluation(self, part: Part) -> DataLoader[Batch | Failure]:
        stream = self._stream(part, [], View(self.view.size_px))
        positions = range(len(part.selection))
        size = self.batch_size
        return self._loader(
            Subset(stream, positions), [list(positions[i : i + size]) for i in range(0, len(positions), size)]
        )

    def _loader(self, dataset: Any, batches: Any, pin: bool = False) -> DataLoader[Batch | Failure]:
        workers = {"prefetch_factor": self.prefetch_batches, "persistent_workers": True} if self.num_workers else {}
        cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=pin and cuda,
            **workers,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what the networks need. Positions and halves stay on the host, which draws noise by them."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {**moved, "positions": batch["positions"], "is_prior": batch["is_prior"]}

    def on_before_batch_transfer(self, batch: Batch | Failure, dataloader_idx: int) -> Batch:
        """Raise what went wrong in a worker, in the place where the batch would have been used."""
        if isinstance(batch, Failure):
            raise batch.error()
        return batch

    # --- where the trainer stands -------------------------------------------------------------------------------------

    def positions_consumed(self) -> int:
        """Global positions that optimizer steps have used; what workers fetched in advance does not count."""
        if self.trainer is None:
            return self._restored
        stride = self.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        return self.trainer.global_step * stride

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must agree with, and the position. Plain types only."""
        assert self.trainer is not None
        return {**self._identity(), "positions": self.positions_consumed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint continues this very stream. Raises `MismatchError` that shows the difference."""
        state = copy.deepcopy(state_dict)
        self._restored = state.pop("positions")
        if self.trainer is None or self.trainer.state.fn == "fit":  # any data may be evaluated on
            require_same(state, self._identity(), "the data")

    def _identity(self) -> dict[str, Any]:
        trainer = self.trainer
        instance, *prior = self.parts()
        return {
            "manifest": instance.manifest.identity,
            "selection": instance.selection.hash,
            "prior_manifests": [part.manifest.identity for part in prior],
            "prior_selections": [part.selection.hash for part in prior],
            "seed": self.seed,
            "pairs_per_step": self.batch_size
            * (trainer.world_size * trainer.accumulate_grad_batches if trainer else 1),
            "size_px": self.view.size_px,
            "crop": self.view.crop,
            "crop_scale": list(self.view.crop_scale),
            "flip_probability": self.view.flip_probability,
            "instance_prompt": self.instance_prompt,
            "class_prompt": self.class_prompt,
            "positions_per_epoch": self.positions_per_epoch,
        }


def require_same(stored: dict[str, Any], current: dict[str, Any], what: str) -> None:
    """Raise `MismatchError` that lists each field in which a checkpoint differs from this run."""
    fields = sorted(stored.keys() | current.keys())
    absent = "(absent)"
    differing = [name for name in fields if stored.get(name, absent) != current.get(name, absent)]
    if differing:
        shown = "; ".join(
            f"{name}: {stored.get(name, absent)!r} in the checkpoint, {current.get(name, absent)!r} now"
            for name in differing
        )
        raise MismatchError(
            f"the checkpoint was made with other settings of {what} ({shown}). Set them back, or train anew into "
            "another folder with --run."
        )
