"""LoRA layers in a model: put in, switched off for a while, counted, taken out. They are float32 always.

Hu et al., "LoRA", arXiv:2106.09685: W x + (alpha / rank) B A x. The layers are peft's; which modules take one is
decided by the last part of a module's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from licet.errors import UsageError
from lightning_modules.diffusion.families.sd15 import StableDiffusion

ADAPTER = "default"

UNET_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
UNET_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "conv", "proj_in", "proj_out")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)  # no slots: jsonargparse reads the __dict__ of a default
class LoraShape:
    """What decides the number and the scale of an adapter's weights."""

    rank: int = 8
    alpha: float = 8
    """Scale: what is learnt is multiplied by alpha / rank."""
    dropout: float = 0.0
    unet_targets: tuple[str, ...] = UNET_ATTENTION
    text_targets: tuple[str, ...] = TEXT_ATTENTION

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise UsageError(
                f"LoRA of rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: expected rank 1 or more, alpha "
                "above 0, dropout from 0 to below 1."
            )


def inject(model: StableDiffusion, shape: LoraShape, text_encoder: bool, seed: int) -> None:
    """Put LoRA layers into the UNet and, where asked, the text encoder. Only they require gradients afterwards.

    Their first weights are a function of `seed`: no global random state is read or changed. Raises `UsageError` when a
    network has none of the modules named.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(model.unet, shape, shape.unet_targets)
        if text_encoder:
            _inject(model.text_encoder, shape, shape.text_targets)
    for parameter in trainable_parameters(model).values():
        parameter.data = parameter.data.float()


def _inject(network: nn.Module, shape: LoraShape, targets: Sequence[str]) -> None:
    names = {name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    unknown = [t for t in targets if not any(name == t or name.endswith("." + t) for name in names)]
    if unknown or not targets:
        ends = sorted({name.rsplit(".", 1)[-1] for name in names} - {str(i) for i in range(100)})
        raise UsageError(f"LoRA targets {list(targets)}: {type(network).__name__} has no {unknown}; it has {ends}.")
    config = LoraConfig(
        r=shape.rank, lora_alpha=shape.alpha, lora_dropout=shape.dropout, target_modules=sorted(targets)
    )
    inject_adapter_in_model(config, network, adapter_name=ADAPTER)
    if not hasattr(network, "peft_config"):
        network.peft_config = {ADAPTER: config}


def lora_layers(module: nn.Module) -> list[BaseTunerLayer]:
    """Every LoRA layer inside a module."""
    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The base model, for as long as the context lasts."""
    layers = lora_layers(model)
    training = {name: p.requires_grad for name, p in model.named_parameters()}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(training[name])


def remove(model: StableDiffusion) -> None:
    """Take every LoRA layer out again: the base model's own modules stand where they stood."""
    for network in (model.unet, model.text_encoder):
        for name, module in list(network.named_modules()):
            if isinstance(module, BaseTunerLayer):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, module.get_base_layer())
        network.__dict__.pop("peft_config", None)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, of those that training changes."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, frozen) numbers of weights."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, sum(p.numel() for p in model.parameters()) - trainable
