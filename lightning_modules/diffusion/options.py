"""What the flags and YAML files of `licet sample` may say. Kept light: a mistyped flag is told without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from licet.errors import UsageError


@dataclass(frozen=True)
class SampleOptions:
    """Which model draws what, and which images it is compared with."""

    output: Path
    """Folder for samples.png and samples.json; files of these names in it are replaced."""
    base: str = "tiny_sd"
    """Base model: a folder in diffusers' layout, or a name that ships with licet."""
    adapter: Path | None = None
    """Folder of a LoRA adapter as `licet train` writes it. Without one only the base model draws."""
    manifest: Path | None = None
    """Manifest that the adapter was trained on; images to compare with are read from its shards."""
    allow_other_manifest: bool = False
    """Compare although the adapter names another manifest, or none."""
    allow_other_base: bool = False
    """Draw although the adapter names a base model with other weights."""
    sources: list[str] = field(default_factory=list)
    """Sources of the manifest that were trained on; empty means those that the adapter names, or else all of it."""
    held_out_sources: list[str] = field(default_factory=list)
    """Sources that show the subject and were not trained on; similarity is measured against them, if there are any."""
    control_sources: list[str] = field(default_factory=list)
    """Sources that show another subject: towards it there should be no gain."""
    prompt: str = "a photo of sks cat"
    """Prompt for the subject."""
    class_prompt: str = "a photo of a cat"
    """Prompt for its class."""
    seeds: int = 16
    """How many seeds are drawn and measured."""
    first_seed: int = 0
    """The first of them; each later one is one more."""
    steps: int = 25
    """Steps of the sampler."""
    guidance_scale: float = 3.0
    """Classifier-free guidance; 1 turns it off."""
    size_px: int = 64
    """Side of the drawn images."""
    batch_size: int = 8
    """Images drawn at a time."""
    max_images: int = 256
    """Most images read of each group of sources, spread evenly over it."""
    seeds_shown: int = 8
    """How many of the seeds samples.png shows."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes a GPU when there is one."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "size_px", "batch_size", "max_images", "seeds_shown"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if self.first_seed < 0:
            raise UsageError(f"first_seed must not be below 0, found {self.first_seed}.")
        if self.adapter is not None and self.manifest is None:
            raise UsageError("an adapter is compared with the images that it was trained on: add --manifest.")
        if self.manifest is None and (self.sources or self.held_out_sources or self.control_sources):
            raise UsageError("sources are read from a manifest: add --manifest.")
