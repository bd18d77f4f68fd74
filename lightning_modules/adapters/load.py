"""An adapter's way back into a model, through diffusers' own loader, and what its header says it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from safetensors import SafetensorError, safe_open

from licet.errors import DamagedError, MismatchError, UsageError
from licet.manifest import Manifest
from lightning_modules.adapters.export import WEIGHTS_NAME
from lightning_modules.adapters.lora import lora_layers
from lightning_modules.diffusion.families.sd15 import StableDiffusion, weights_hash

MANIFEST_KEY, SOURCES_KEY, BASE_KEY = "licet.manifest", "licet.sources", "licet.base_weights"
"""Entries of an adapter's header: the manifest's identity, rows by source as JSON, a hash of the base's weights."""


def read_header(folder: Path) -> dict[str, str]:
    """The header of a folder's adapter. Raises `UsageError` for none, `DamagedError` for one that cannot be read."""
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise UsageError(f"there is no adapter in {folder}: expected {WEIGHTS_NAME}, as `licet train` writes it.")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedError(f"{path} is not a safetensors file ({error}). Export the adapter again.") from error


def load_adapter(model: StableDiffusion, folder: Path) -> None:
    """Put an adapter's layers into a model, as `pipeline.load_lora_weights(folder)` does; nothing requires gradients.

    Raises what `read_header` does, and `MismatchError` when the adapter is for a model of another shape.
    """
    read_header(folder)
    mixin = StableDiffusionLoraLoaderMixin
    try:
        weights, alphas, metadata = mixin.lora_state_dict(
            folder, weight_name=WEIGHTS_NAME, use_safetensors=True, return_lora_metadata=True
        )
        mixin.load_lora_into_unet(weights, alphas, unet=model.unet, metadata=metadata)
        mixin.load_lora_into_text_encoder(weights, alphas, text_encoder=model.text_encoder, metadata=metadata)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise MismatchError(f"the adapter in {folder} does not fit the base model {model.name}: {reason}") from error
    if not lora_layers(model):
        raise MismatchError(f"the adapter in {folder} changes nothing in the base model {model.name}.")
    model.requires_grad_(False).eval()


def require_same_manifest(header: Mapping[str, str], folder: Path, manifest: Manifest) -> None:
    """Raise `MismatchError` unless an adapter's header names this manifest."""
    named = header.get(MANIFEST_KEY)
    if named != manifest.identity:
        trained_on = f"manifest {named[:12]}" if named else "no manifest that it names"
        raise MismatchError(
            f"the adapter in {folder} was trained on {trained_on}, {manifest.path} is {manifest.identity[:12]}: give "
            "its own manifest, or --allow_other_manifest true."
        )


def require_same_base(header: Mapping[str, str], folder: Path, base: str) -> None:
    """Raise `MismatchError` if an adapter's header names other weights than the base model's."""
    named, found = header.get(BASE_KEY), weights_hash(base)
    if named and named != found:
        raise MismatchError(
            f"the adapter in {folder} was trained on base weights {named[:12]}, {base} has {found[:12]}: give its own "
            "base, or --allow_other_base true."
        )
