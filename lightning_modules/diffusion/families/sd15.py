"""Stable Diffusion 1.x and 2.x: one text encoder, one UNet, one VAE, in diffusers' folder layout.

    model = load_family("tiny_sd")                      a folder, a shipped model's name, or a hub id
    model.sample(["a photo of a cat"], seeds=[0])       uint8 (B, H, W, 3)

It knows the arithmetic of the family and nothing of training loops, data or adapters; LoRA layers inside the networks
are used as they are found. Sampling follows `diffusers.StableDiffusionPipeline` operation by operation, so that equal
generators give equal images.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from licet.errors import UsageError
from licet.shards.index import file_sha256

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
"""The folders of a model. Anything else beside them (safety checker, image processor) is neither read nor hashed."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


class StableDiffusion(nn.Module):
    """The parts of a model, and what they compute together. Shapes: B images, L tokens, D text width, h = H / 8."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler,
        name: str = "in-memory",
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
            raise UsageError(
                f"{name} predicts {scheduler.config.prediction_type!r}: licet trains models that predict 'epsilon' or "
                "'v_prediction'."
            )
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.unet = unet
        self.vae = vae
        self.scheduler = scheduler
        self.name = name
        """What a person calls the model: the last part of its folder or its hub id."""
        self.folder = folder
        self.requires_grad_(False).eval()
        # A plain attribute would not follow the module to its device; saved weights must not hold it.
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.clone().float(), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.alphas_cumprod.device

    @property
    def pixels_per_latent(self) -> int:
        """Pixels of an image's side for each latent: 8 in Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def default_size_px(self) -> int:
        """The side of images that the UNet was made for."""
        return int(self.unet.config.sample_size) * self.pixels_per_latent

    def latent_shape(self, height_px: int, width_px: int) -> tuple[int, int, int]:
        """(C, h, w) of one image's latents. Raises `UsageError` when a side is no multiple of what the model needs."""
        step = self.pixels_per_latent
        if height_px % step or width_px % step or min(height_px, width_px) < step:
            raise UsageError(
                f"{self.name} makes images with sides in multiples of {step} px, not {width_px}x{height_px}."
            )
        return int(self.unet.config.in_channels), height_px // step, width_px // step

    # --- text ---------------------------------------------------------------------------------------------------------

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids, (B, L) int64, padded and cut to the length of the text encoder."""
        return tokenize(self.tokenizer, prompts)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """(B, L) token ids to (B, L, D) text features: the last hidden state."""
        return self.text_encoder(tokens)[0]

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Text features of prompts, (B, L, D)."""
        return self.encode_tokens(self.tokenize(prompts).to(self.device))

    # --- images -------------------------------------------------------------------------------------------------------

    def encode_image(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w).

        With `noise` of the latents' shape the posterior is sampled, mean + deviation * noise; without it the mean is
        taken. Nothing is drawn here, so that the caller decides what a repeat of a step sees.
        """
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean.dtype)
        return latents * self.vae.config.scaling_factor

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) to pixels (B, 3, H, W), about [-1, 1], not clipped."""
        return self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]

    # --- diffusion ----------------------------------------------------------------------------------------------------

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e (Ho et al., arXiv:2006.11239, equation 4); timesteps (B,) int64."""
        signal, deviation = self._signal_and_deviation(timesteps, latents)
        return signal * latents + deviation * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should predict: e, or v = sqrt(a_t) e - sqrt(1 - a_t) x_0 (Salimans, Ho, arXiv:2202.00512)."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        signal, deviation = self._signal_and_deviation(timesteps, latents)
        return signal * noise - deviation * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio a_t / (1 - a_t) of each timestep, (B,)."""
        alphas = self.alphas_cumprod[timesteps]
        return alphas / (1 - alphas)

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The UNet's prediction for noisy latents (B, C, h, w), timesteps (B,) and text features (B, L, D)."""
        return self.unet(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]

    def _signal_and_deviation(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[timesteps].to(like.dtype)[:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()

    # --- sampling -----------------------------------------------------------------------------------------------------

    def sample(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
        steps: int = 25,
        guidance_scale: float = 7.5,
        height_px: int | None = None,
        width_px: int | None = None,
    ) -> Tensor:
        """Images of prompts, uint8 (B, H, W, 3) on the CPU; as `sample_pixels`, rounded as diffusers rounds."""
        pixels = self.sample_pixels(prompts, negative, seeds, steps, guidance_scale, height_px, width_px)
        return (pixels.permute(0, 2, 3, 1).cpu().float() * 255).round().to(torch.uint8)

    @torch.no_grad()
    def sample_pixels(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
        steps: int = 25,
        guidance_scale: float = 7.5,
        height_px: int | None = None,
        width_px: int | None = None,
    ) -> Tensor:
        """Images of prompts by DDIM (Song et al., arXiv:2010.02502), (B, 3, H, W) in [0, 1].

        One seed per prompt: each starts from a CPU generator of its own, so its noise does not depend on its batch
        mates, and no global random state is read or changed. `guidance_scale` above 1 means classifier-free guidance
        (Ho and Salimans, arXiv:2207.12598), both halves in one forward pass; `negative` defaults to empty prompts.
        """
        if len(prompts) != len(seeds):
            raise UsageError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}.")
        if negative is not None and len(negative) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts need as many negative prompts, not {len(negative)}.")
        height_px, width_px = height_px or self.default_size_px, width_px or self.default_size_px
        shape = self.latent_shape(height_px, width_px)
        scheduler = DDIMScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        guided = guidance_scale > 1
        with _evaluating(self):
            text = self.encode_prompt(prompts)
            if guided:
                text = torch.cat([self.encode_prompt(negative or [""] * len(prompts)), text])
            latents = _starting_noise(seeds, shape).to(self.device, text.dtype) * scheduler.init_noise_sigma
            for timestep in scheduler.timesteps:
                doubled = torch.cat([latents, latents]) if guided else latents
                prediction = self.unet(
                    scheduler.scale_model_input(doubled, timestep),
                    timestep,
                    encoder_hidden_states=text,
                    return_dict=False,
                )[0]
                if guided:
                    unconditional, conditional = prediction.chunk(2)
                    prediction = unconditional + guidance_scale * (conditional - unconditional)
                latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
            return (self.decode_latents(latents) * 0.5 + 0.5).clamp(0, 1)


def load_family(base: str | Path, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Open a model, frozen and in evaluation mode. Only safetensors are read.

    `base` is a diffusers folder, the name of a model that ships with licet (`tiny_sd`), or a hub id (`owner/name`);
    only a hub id touches the network. Raises `UsageError` when there is no such model or it lacks a part.
    """
    folder = resolve_base(base)
    local = {"local_files_only": True}
    try:
        return StableDiffusion(
            tokenizer=load_tokenizer(folder),
            text_encoder=CLIPTextModel.from_pretrained(
                folder, subfolder="text_encoder", dtype=dtype, use_safetensors=True, **local
            ),
            unet=UNet2DConditionModel.from_pretrained(
                folder, subfolder="unet", torch_dtype=dtype, use_safetensors=True, **local
            ),
            vae=AutoencoderKL.from_pretrained(
                folder, subfolder="vae", torch_dtype=dtype, use_safetensors=True, **local
            ),
            scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler", **local),
            name=Path(base).name,
            folder=folder,
        )
    except OSError as error:
        raise UsageError(f"{folder} is not a Stable Diffusion in diffusers' layout: {_first_line(error)}") from error


def resolve_base(base: str | Path) -> Path:
    """The folder of a model; a hub id is downloaded first. Raises `UsageError` when there is none."""
    folder = Path(base)
    if folder.is_dir():
        _require_parts(folder)
        return folder
    shipped = Path(str(resources.files("lightning_modules").joinpath("assets", str(base))))
    if str(base) == folder.name and shipped.is_dir():
        _require_parts(shipped)
        return shipped
    if _HUB_ID.match(str(base)):
        return _download(str(base))
    raise UsageError(
        f"there is no model at {base}: give a diffusers folder, a hub id such as owner/name, or tiny_sd, which ships "
        "with licet."
    )


def load_tokenizer(base: str | Path) -> CLIPTokenizer:
    """A model's tokenizer alone. Raises `UsageError` as `resolve_base` does."""
    return CLIPTokenizer.from_pretrained(resolve_base(base), subfolder="tokenizer", local_files_only=True)


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids, (B, L) int64, padded and cut to the length of the text encoder."""
    return tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids


def weights_hash(base: str | Path) -> str:
    """SHA-256 over the names and hashes of every file in a model's parts: equal hashes mean equal models."""
    folder = resolve_base(base)
    digest = hashlib.sha256()
    for part in PARTS:
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(str(path))}\n".encode())
    return digest.hexdigest()


def _require_parts(folder: Path) -> None:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise UsageError(
            f"{folder} is not a Stable Diffusion in diffusers' layout: it lacks {', '.join(missing)}. Save one there "
            "with StableDiffusionPipeline.save_pretrained."
        )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [f"{part}/{name}" for part in PARTS for name in ("*.json", "*.txt", "*model.safetensors")]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*wanted, "README.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"there is no folder {hub_id}, and the model hub did not give a model of that name: {_first_line(error)}"
        ) from error


def _starting_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise (B, C, h, w), each image's from a generator of its own."""
    draws = [torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(int(seed))) for seed in seeds]
    return torch.cat(draws)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Everything in evaluation mode (no dropout); each submodule goes back to its own mode afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
