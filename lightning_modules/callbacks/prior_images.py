"""Class images from the base model itself, where too few are at hand: what prior preservation compares with.

    <folder>/<fingerprint>/units/00000.json     one per finished shard: what it holds, and its hashes
    <folder>/<fingerprint>/shards/<uuid>.tfrecord
    <folder>/<fingerprint>/manifest.json        what training reads

The fingerprint is over model, prompt, seed, sampler and size: images of another model or prompt are never taken for
these. A shard counts when its unit file lists it; a killed run goes on with the first unit that is missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import PIL.Image
import pytorch_lightning as pl
import yaml

from licet.errors import PolicyRefusedError, UsageError
from licet.licences import NO_ASSERTION, LicenceError, licence_page, normalise
from licet.manifest import Manifest, ShardEntry, ShardFile, write_durably, write_manifest
from licet.policy import Decision, Outcome, Policy, Purpose
from licet.records import Sample
from licet.shards import open_writer
from licet.shards.index import content_hash, file_sha256, index_path
from lightning_modules.adapters.lora import adapter_off
from lightning_modules.diffusion.dreambooth import DreamBooth
from lightning_modules.diffusion.families.sd15 import StableDiffusion

log = logging.getLogger(__name__)

SAMPLER = "ddim"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a generated image looks like."""

    model: str
    model_hash: str
    prompt: str
    negative_prompt: str
    seed: int
    """Image i starts from seed + i."""
    sampler: str
    sampling_steps: int
    guidance_scale: float
    size_px: int
    images_per_shard: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class PriorImages(pl.Callback):
    """Before training: generate the class images that are missing, with the adapter switched off."""

    def __init__(
        self,
        count: int = 16,
        folder: str | None = None,
        seed: int = 0,
        sampling_steps: int = 25,
        guidance_scale: float = 5.0,
        negative_prompt: str = "",
        batch_size: int = 4,
        overrides: dict[str, Literal["allow", "allow-with-obligations", "review", "deny"]] | None = None,
    ) -> None:
        """The prompt is the data's class prompt, the size the data's.

        Args:
            count: Class images that training should have, ingested ones included.
            folder: Where generated images are kept, for any run that asks for the same; <run>/prior by default.
            seed: Image i starts from seed + i.
            sampling_steps: DDIM steps of an image.
            guidance_scale: Classifier-free guidance; 1 is none.
            negative_prompt: What images are guided away from.
            batch_size: Images in one forward pass, and in one shard.
            overrides: Policy rules that a person has decided otherwise, for the licence of the base model's images.
        """
        if count < 0 or batch_size < 1:
            raise UsageError(f"{count} class images in batches of {batch_size}: expected 0 or more, and 1 or more.")
        self.count, self.folder, self.seed, self.batch_size = count, folder, seed, batch_size
        self.sampling_steps, self.guidance_scale = sampling_steps, guidance_scale
        self.negative_prompt = negative_prompt
        self.overrides = {rule: Outcome(outcome) for rule, outcome in (overrides or {}).items()}

    def setup(self, trainer: pl.Trainer, pl_module: DreamBooth, stage: str) -> None:
        """Runs after the data are opened and before a checkpoint is read, which names the class images' manifest.

        Raises `UsageError` when prior preservation is on and nothing gives class images, `PolicyRefusedError` when the
        base model's licence does not allow the purpose.
        """
        data = trainer.datamodule
        if stage != "fit":
            return
        if not pl_module.prior_loss_weight:
            data.prior.clear()
            return
        missing = self.count - data.n_prior
        if missing > 0:
            if not data.class_prompt:
                raise UsageError("class images need a prompt: set data.class_prompt, such as 'a photo of a cat'.")
            recipe = self._recipe(pl_module, data.class_prompt, data.view.size_px)
            folder = Path(self.folder or Path(trainer.default_root_dir) / "prior") / recipe.fingerprint[:16]
            if trainer.is_global_zero:
                pl_module.family.to(trainer.strategy.root_device)
                with adapter_off(pl_module.family):
                    generate(pl_module.family, recipe, missing, folder, data.purpose, self.overrides)
            trainer.strategy.barrier("prior images")
            data.add_prior(folder / "manifest.json")
        elif not data.n_prior:
            raise UsageError(
                "prior preservation needs class images: set prior.count or data.prior_manifest, or "
                "model.prior_loss_weight to 0."
            )

    def _recipe(self, module: DreamBooth, prompt: str, size_px: int) -> Recipe:
        return Recipe(
            model=module.family.name,
            model_hash=module.base_hash,
            prompt=prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            sampler=SAMPLER,
            sampling_steps=self.sampling_steps,
            guidance_scale=self.guidance_scale,
            size_px=size_px,
            images_per_shard=self.batch_size,
        )


def generate(
    model: StableDiffusion,
    recipe: Recipe,
    count: int,
    folder: Path,
    purpose: Purpose,
    overrides: dict[str, Outcome] | None = None,
) -> Manifest:
    """Make at least `count` images, in whole shards, and their manifest; finished shards are not made again."""
    policy = Policy(purpose, overrides or {})
    licence = licence_of(model)
    decision = policy.decide(licence, credited=True)
    if not decision.allowed:
        raise PolicyRefusedError(
            f"class images would carry the licence of {model.name}, {licence}: {decision.reason}. State a licence in "
            "its README.md's front matter, use ingested class images, or let a person decide: prior.overrides "
            f"{{{decision.rule}: allow}}."
        )
    entries = []
    for unit in range(-(-count // recipe.images_per_shard)):
        entry = _finished(folder, unit)
        if entry is None:
            log.info("class images %d to %d", unit * recipe.images_per_shard, (unit + 1) * recipe.images_per_shard - 1)
            entry = _make_unit(model, recipe, unit, folder, licence, decision)
        entries.append(entry)
    return write_manifest(
        folder / "manifest.json", entries, purpose, policy.hash, envelope={"generated": asdict(recipe)}
    )


def licence_of(model: StableDiffusion) -> str:
    """SPDX expression of what a model makes: `license:` in its README's front matter, or else nobody has said."""
    readme = model.folder / "README.md" if model.folder else None
    if readme is None or not readme.is_file():
        return NO_ASSERTION
    parts = readme.read_text(encoding="utf-8").split("---\n")
    if len(parts) < 3 or parts[0].strip():
        return NO_ASSERTION
    try:
        stated = yaml.safe_load(parts[1]).get("license", NO_ASSERTION)
    except (yaml.YAMLError, AttributeError) as error:
        raise UsageError(f"{readme}: its front matter is not YAML ({str(error).splitlines()[0]}).") from error
    try:
        return normalise(str(stated))
    except LicenceError:  # a hub's own name, such as creativeml-openrail-m: terms that a person has to read
        return "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", str(stated))


def _make_unit(
    model: StableDiffusion, recipe: Recipe, unit: int, folder: Path, licence: str, decision: Decision
) -> ShardEntry:
    first = unit * recipe.images_per_shard
    numbers = range(first, first + recipe.images_per_shard)
    images = model.sample(
        [recipe.prompt] * len(numbers),
        [recipe.negative_prompt] * len(numbers),
        seeds=[recipe.seed + i for i in numbers],
        steps=recipe.sampling_steps,
        guidance_scale=recipe.guidance_scale,
        height_px=recipe.size_px,
        width_px=recipe.size_px,
    )
    name = f"shards/{uuid.uuid4().hex}.tfrecord"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer("tfrecord", str(path)) as writer:
        for i, pixels in zip(numbers, images.numpy(), strict=True):
            writer.add(_sample(recipe, i, pixels, licence, decision))
    index = writer.close()
    file = ShardFile(
        name, file_sha256(str(path)), path.stat().st_size, index_path(name), file_sha256(index_path(str(path)))
    )
    rows = len(index)
    entry = ShardEntry(
        unit_id=f"{recipe.fingerprint[:16]}-{unit:05d}",
        rows=rows,
        live_rows=rows,
        content=content_hash(index.table.column("content").to_pylist()),
        licences={licence: rows},
        languages={"und": rows},
        sources={_source(recipe): rows},
        files={"tfrecord": file},
    )
    write_durably(_unit_file(folder, unit), json.dumps(asdict(entry)).encode())
    return entry


def _sample(recipe: Recipe, number: int, pixels: Any, licence: str, decision: Decision) -> Sample:
    payload = io.BytesIO()
    PIL.Image.fromarray(pixels).save(payload, "png")
    height, width = pixels.shape[:2]
    return Sample(
        key=f"{recipe.fingerprint[:16]}-{number:06d}",
        payload=payload.getvalue(),
        payload_format="png",
        caption=recipe.prompt,
        width=width,
        height=height,
        original_width=width,
        original_height=height,
        sha256=hashlib.sha256(payload.getvalue()).hexdigest(),
        phash="",  # the seed says which image it is
        source_id=_source(recipe),
        source_url=f"generated:{recipe.fingerprint}/{number}",
        source_page="",
        licence=licence,
        licence_url=licence_page(licence),
        creator=recipe.model,
        attribution=f"generated by {recipe.model} from the prompt “{recipe.prompt}”",
        language="und",
        rights=json.dumps({"generated": {**asdict(recipe), "seed": recipe.seed + number}}, ensure_ascii=False),
        decision=decision.rule,
    )


def _source(recipe: Recipe) -> str:
    return f"generated-{re.sub(r'[^a-z0-9._-]+', '-', recipe.model.lower())}"


def _unit_file(folder: Path, unit: int) -> Path:
    return folder / "units" / f"{unit:05d}.json"


def _finished(folder: Path, unit: int) -> ShardEntry | None:
    """A unit that is on disk as its file says; none where it has to be made."""
    path = _unit_file(folder, unit)
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    file = ShardFile(**stored.pop("files")["tfrecord"])
    for name, sha256 in ((file.path, file.sha256), (file.index_path, file.index_sha256)):
        if not (folder / name).exists() or file_sha256(str(folder / name)) != sha256:
            log.warning("class images of unit %d are missing or altered: they are made again", unit)
            return None
    return ShardEntry(**stored, files={"tfrecord": file})
