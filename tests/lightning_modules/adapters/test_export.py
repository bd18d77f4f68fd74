import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from lightning_modules.adapters.export import WEIGHTS_NAME, export_adapter
from lightning_modules.adapters.lora import UNET_ATTENTION, UNET_CONVOLUTIONS, LoraShape, inject, trainable_parameters
from lightning_modules.diffusion.families.sd15 import load_family

SHAPES = [
    (LoraShape(rank=2, alpha=2), True),
    (LoraShape(rank=4, alpha=11), True),
    (LoraShape(rank=3, alpha=1.5, unet_targets=UNET_ATTENTION + UNET_CONVOLUTIONS), True),
    (LoraShape(rank=2, alpha=8, dropout=0.5, unet_targets=("to_k", "to_v")), False),
]


def adapted_model(base, shape, text_encoder):
    model = load_family(base)
    inject(model, shape, text_encoder, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


@pytest.mark.parametrize(("shape", "text_encoder"), SHAPES)
def test_plain_diffusers_draws_what_our_sampler_draws(base, tmp_path, shape, text_encoder):
    model = adapted_model(base, shape, text_encoder)
    export_adapter(model, tmp_path, {"licet.manifest": "abc", "licet.credits": json.dumps([{"a": "é"}])})
    ours = model.sample_pixels(["a photo of sks cat"], seeds=[3], steps=3, guidance_scale=4)

    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    draw = {"num_inference_steps": 3, "guidance_scale": 4, "output_type": "np"}

    def drawn():
        return pipeline("a photo of sks cat", generator=torch.Generator().manual_seed(3), **draw).images[0]

    before = drawn()
    pipeline.load_lora_weights(tmp_path)
    found = drawn()
    assert np.abs(found - before).max() > 1e-2
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - found).max() <= 1e-5
    assert ("text_encoder" in pipeline.get_list_adapters()) == text_encoder


def test_the_header_holds_what_was_given_and_the_weights_are_float32(base, tmp_path):
    path = export_adapter(adapted_model(base, *SHAPES[1]), tmp_path / "new", {"licet.rows": "7"})
    assert path == tmp_path / "new" / WEIGHTS_NAME
    with safe_open(path, "pt") as file:
        assert file.metadata()["licet.rows"] == "7"
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == 11
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
    assert [p.name for p in path.parent.iterdir()] == [WEIGHTS_NAME]
