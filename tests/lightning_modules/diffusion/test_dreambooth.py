import pytest
import torch

from licet.errors import UsageError
from lightning_modules.adapters.lora import LoraShape, trainable_parameters
from lightning_modules.diffusion.dreambooth import DreamBooth, schedule_factor


def a_batch(positions=(4, 9), prior=True):
    generator = torch.Generator().manual_seed(0)
    positions = [*positions, *positions] if prior else list(positions)
    size = len(positions)
    return {
        "pixels": torch.rand((size, 3, 16, 16), generator=generator) * 2 - 1,
        "tokens": torch.full((size, 24), 5),
        "is_prior": torch.arange(size) >= (size // 2 if prior else size),
        "positions": torch.tensor(positions),
        "keys": [str(i) for i in range(size)],
    }


@pytest.mark.parametrize("kind", ["base", "v_base"])
def test_the_loss_is_that_of_each_sample_alone(kind, request):
    """One forward pass for both halves equals a pass for each image; noise goes with position and half."""
    module = DreamBooth(request.getfixturevalue(kind), prior_loss_weight=0.7, min_snr_gamma=5.0)
    batch = a_batch()
    together = module.loss(batch, "train")

    def alone(i):
        one = {name: value[i : i + 1] for name, value in batch.items()}
        return module.loss(one, "train")

    instance = (alone(0).instance + alone(1).instance) / 2
    prior = (alone(2).prior + alone(3).prior) / 2
    torch.testing.assert_close(together.total, instance + 0.7 * prior, rtol=1e-4, atol=1e-6)


def test_a_step_depends_on_position_and_seed_and_on_no_random_state(base):
    module = DreamBooth(base, lora=LoraShape(rank=2, dropout=0.5), seed=3)
    module.train()
    for layer in module.family.modules():
        layer.train()

    def loss(batch, seed=3):
        module.seed = seed
        torch.manual_seed(int(torch.randint(1 << 30, ())))
        with module._dropout_by_position(batch):
            return module.loss(batch, "train").total.item()

    assert loss(a_batch()) == loss(a_batch())
    assert loss(a_batch()) != loss(a_batch((4, 10)))
    assert loss(a_batch()) != loss(a_batch(), seed=4)
    state = torch.random.get_rng_state()
    with module._dropout_by_position(a_batch()):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_noise_is_standard_normal_and_timesteps_cover_the_range(base):
    module = DreamBooth(base)
    noise, posterior, timesteps = module._draw(a_batch(range(300)), (4, 8, 8), "train")
    for drawn in (noise, posterior):
        assert abs(drawn.mean()) < 0.02
        assert abs(drawn.std() - 1) < 0.02
    assert len({n.numpy().tobytes() for n in (*noise, *posterior)}) == 1200
    assert 0 <= timesteps.min() < 20
    assert 980 < timesteps.max() <= 999


def test_gradients_reach_adapter_weights_alone(base):
    module = DreamBooth(base, train_text_encoder=False)
    module.loss(a_batch(), "train").total.backward()
    with_gradient = {name for name, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == set(trainable_parameters(module))
    assert {name.split(".")[1] for name in with_gradient} == {"unet"}


def test_schedules_rise_and_fall_as_named():
    assert [schedule_factor("constant", 4, None)(s) for s in (0, 3, 4, 1000)] == [0.25, 1, 1, 1]
    assert [schedule_factor("linear", 2, 6)(s) for s in (0, 2, 4, 6, 9)] == [0.5, 1, 0.5, 0, 0]
    cosine = [schedule_factor("cosine", 0, 4)(s) for s in range(5)]
    assert cosine == pytest.approx([1, 0.8535534, 0.5, 0.1464466, 0])
    with pytest.raises(UsageError, match=r"set model\.schedule_steps or trainer\.max_steps"):
        schedule_factor("cosine", 0, None)
