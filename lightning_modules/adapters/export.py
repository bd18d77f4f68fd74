"""An adapter as a file that plain diffusers reads: `pipeline.load_lora_weights(folder)`.

Rank, alpha and targets travel as diffusers' own adapter metadata; whatever else is given becomes further entries of the
safetensors header, which diffusers passes over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from licet.manifest import write_durably
from lightning_modules.adapters.lora import ADAPTER, lora_layers
from lightning_modules.diffusion.families.sd15 import StableDiffusion

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
"""The name that `load_lora_weights` looks for in a folder."""

_DIFFUSERS_KEY = "lora_adapter_metadata"


def export_adapter(model: StableDiffusion, folder: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a model's adapter into a folder, in one rename; returns the file's path. Weights are float32."""
    path = Path(folder) / WEIGHTS_NAME
    weights, adapter = adapter_weights(model)
    header = {"format": "pt", _DIFFUSERS_KEY: json.dumps(adapter, sort_keys=True), **(metadata or {})}
    write_durably(path, _in_fixed_order(safetensors.torch.save(weights, metadata=header)))
    return path


def _in_fixed_order(encoded: bytes) -> bytes:
    """The same safetensors file with sorted header keys: the library's order differs from run to run.

    A file is the header's length (8 bytes, little-endian), the header (JSON, padded with spaces) and the tensors, whose
    offsets count from the header's end.
    """
    end = 8 + int.from_bytes(encoded[:8], "little")
    header = json.dumps(json.loads(encoded[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + encoded[end:]


def adapter_weights(model: StableDiffusion) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights under the names that diffusers reads, and the LoRA configuration with each network's prefix."""
    weights: dict[str, Tensor] = {}
    adapter: dict[str, Any] = {}
    for prefix, network in (("unet", model.unet), ("text_encoder", model.text_encoder)):
        if not lora_layers(network):
            continue
        # peft's own names throughout: diffusers judges a file by its first key, and its converted names leave
        # convolutions as they were, so that a file of both would load in part, with a warning.
        for name, value in get_peft_model_state_dict(network, adapter_name=ADAPTER).items():
            weights[f"{prefix}.{name}"] = value.detach().to("cpu", torch.float32).contiguous()
        adapter.update({f"{prefix}.{name}": value for name, value in _plain_config(network).items()})
    return weights, adapter


def _plain_config(network: nn.Module) -> dict[str, Any]:
    config: LoraConfig = network.peft_config[ADAPTER]
    wanted = ("r", "lora_alpha", "target_modules", "bias", "use_rslora", "use_dora", "init_lora_weights")
    values = {name: getattr(config, name) for name in wanted}
    return {**values, "target_modules": sorted(values["target_modules"])}
