import pytest
import torch

from licet.errors import UsageError
from lightning_modules.adapters.lora import (
    UNET_ATTENTION,
    UNET_CONVOLUTIONS,
    LoraShape,
    adapter_off,
    count_parameters,
    inject,
    lora_layers,
    remove,
    trainable_parameters,
)
from lightning_modules.diffusion.families.sd15 import load_family


def sample(model):
    return model.sample_pixels(["a cat"], seeds=[5], steps=2)


def randomise(model, seed=0):
    """Adapters start as the identity: give them something to say."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable_parameters(model).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


def test_only_adapter_weights_are_trainable(base):
    model = load_family(base)
    _, total = count_parameters(model)
    inject(model, LoraShape(rank=2), text_encoder=True, seed=0)
    names = trainable_parameters(model)
    assert names
    assert all("lora_" in name for name in names)
    assert {name.split(".")[0] for name in names} == {"unet", "text_encoder"}
    assert count_parameters(model) == (sum(p.numel() for p in names.values()), total)


def test_an_adapter_starts_as_the_identity_and_is_reproducible(base):
    plain = sample(load_family(base))
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    models = [load_family(base) for _ in range(2)]
    for model in models:
        inject(model, LoraShape(rank=2), text_encoder=True, seed=9)
    assert torch.equal(torch.random.get_rng_state(), state)
    one, other = (trainable_parameters(model) for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(sample(models[0]), plain)


def test_the_base_model_comes_back_when_the_adapter_is_off_or_removed(base):
    model = load_family(base)
    plain = sample(model)
    inject(model, LoraShape(rank=2, unet_targets=UNET_ATTENTION + UNET_CONVOLUTIONS), text_encoder=True, seed=0)
    randomise(model)
    adapted = sample(model)
    assert not torch.equal(adapted, plain)
    names = set(trainable_parameters(model))
    with adapter_off(model):
        assert torch.equal(sample(model), plain)
    assert set(trainable_parameters(model)) == names
    assert torch.equal(sample(model), adapted)
    remove(model)
    assert lora_layers(model) == []
    assert torch.equal(sample(model), plain)


def test_a_target_that_no_network_has_is_named(base):
    with pytest.raises(UsageError, match=r"UNet2DConditionModel has no \['to_x'\]; it has .*'to_q'"):
        inject(load_family(base), LoraShape(unet_targets=("to_q", "to_x")), text_encoder=False, seed=0)
    with pytest.raises(UsageError, match="expected rank 1 or more"):
        LoraShape(rank=0)
