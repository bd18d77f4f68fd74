import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from licet.errors import UsageError
from lightning_modules.diffusion.families.sd15 import load_family, resolve_base, weights_hash

PROMPTS = ["a photo of sks cat", "a dog"]
SEEDS = [11, 2**40]


def diffusers_pixels(folder, **arguments):
    """The same draw by diffusers' own pipeline, as floats (B, H, W, 3) in [0, 1]."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]
    return pipeline(PROMPTS, generator=generators, output_type="np", **arguments).images


@pytest.mark.parametrize("kind", ["base", "v_base"])
@pytest.mark.parametrize(
    "arguments",
    [{"guidance_scale": 5.0}, {"guidance_scale": 1.0}, {"guidance_scale": 3.0, "negative_prompt": ["blur", "grain"]}],
)
def test_the_sampler_gives_what_diffusers_gives(kind, arguments, request):
    folder = request.getfixturevalue(kind)
    expected = diffusers_pixels(folder, num_inference_steps=4, **arguments)
    ours = load_family(folder).sample_pixels(
        PROMPTS, arguments.get("negative_prompt"), SEEDS, steps=4, guidance_scale=arguments["guidance_scale"]
    )
    assert np.abs(ours.permute(0, 2, 3, 1).numpy() - expected).max() <= 1e-5
    assert expected.std() > 0.01


def test_sampling_neither_reads_nor_changes_random_state_nor_modes(base):
    model = load_family(base)
    model.unet.train()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = model.sample(PROMPTS, seeds=SEEDS, steps=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.unet.training and not model.vae.training
    torch.manual_seed(2)
    assert torch.equal(model.sample(PROMPTS, seeds=SEEDS, steps=2), first)
    assert first.dtype == torch.uint8 and first.shape == (2, 16, 16, 3)


def test_other_sizes_are_sampled_and_impossible_ones_refused(base):
    model = load_family(base)
    assert model.sample(["a"], seeds=[0], steps=1, height_px=32, width_px=24).shape == (1, 32, 24, 3)
    with pytest.raises(UsageError, match="multiples of 2 px"):
        model.sample(["a"], seeds=[0], steps=1, height_px=15)
    with pytest.raises(UsageError, match="as many seeds"):
        model.sample(["a", "b"], seeds=[0], steps=1)


@pytest.mark.parametrize("kind", ["base", "v_base"])
def test_noise_and_target_are_the_formulas_of_the_papers(kind, request):
    model = load_family(request.getfixturevalue(kind))
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    timesteps = torch.tensor([0, 500, 999])
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    a = torch.tensor(np.cumprod(1 - betas)[[0, 500, 999]], dtype=torch.float32)[:, None, None, None]
    torch.testing.assert_close(model.add_noise(latents, noise, timesteps), a**0.5 * latents + (1 - a) ** 0.5 * noise)
    expected = noise if kind == "base" else a**0.5 * noise - (1 - a) ** 0.5 * latents
    torch.testing.assert_close(model.target(latents, noise, timesteps), expected)
    torch.testing.assert_close(model.snr(timesteps), (a / (1 - a)).flatten(), rtol=1e-3, atol=1e-6)


def test_an_image_is_encoded_as_the_vae_says(base):
    model = load_family(base)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    noise = torch.randn(2, *model.latent_shape(16, 16))
    with torch.no_grad():
        posterior = model.vae.encode(pixels).latent_dist
        torch.testing.assert_close(model.encode_image(pixels), posterior.mode() * 0.5)
        torch.testing.assert_close(model.encode_image(pixels, noise), (posterior.mean + posterior.std * noise) * 0.5)


def test_a_folder_that_is_no_model_is_refused_with_a_sentence(tmp_path, base):
    with pytest.raises(UsageError, match="there is no model at"):
        load_family(tmp_path / "nowhere")
    (tmp_path / "unet").mkdir()
    with pytest.raises(UsageError, match="it lacks scheduler, text_encoder"):
        resolve_base(tmp_path)


def test_pickled_weights_are_not_read(tmp_path, base):
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(base, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(load_family(base).unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UsageError, match="not a Stable Diffusion"):
        load_family(folder)


def test_the_hash_of_a_model_depends_on_its_weights_alone(base, v_base, tmp_path):
    import shutil

    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "README.md").write_text("other words")
    assert weights_hash(copy) == weights_hash(base) != weights_hash(v_base)
