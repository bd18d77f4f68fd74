"""The first phase: an AutoencoderKL that turns a 64 px crop into 8 x 16 x 16 latents and back."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from examples.base.pixels import CROP_PX
from examples.base.pool import Pool, autoencoder_batch
from examples.base.training import LossLog, generator_at, load_checkpoint, one_cycle, save_checkpoint

BATCH_SIZE = 16
PEAK_LR = 2e-3
DECODER_PEAK_LR = 1e-3
COLOUR_WEIGHT = 16.0
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))  # lightness, red-blue, green-magenta
LATENT_CHANNELS = 8  # with 4, as in Stable Diffusion, edges and colours compete at this little training
LATENT_NOISE = 0.3  # standard deviation of what the decoder must bear, relative to each channel's own
POSTERIOR_LOGVAR = -8.0  # of what is saved: a sample of the posterior is its mean, as near as makes no difference
N_STATISTICS = 1536  # crops that the latents' mean and spread are measured on
SCALING_FACTOR = 0.2  # latents are normalised to a standard deviation of 1 / SCALING_FACTOR


def new_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: three levels, one residual block in each, 0.7 M parameters."""
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=CROP_PX,
        scaling_factor=SCALING_FACTOR,
    )
    with torch.no_grad():
        model.quant_conv.weight[LATENT_CHANNELS:] = 0
        model.quant_conv.bias[LATENT_CHANNELS:] = POSTERIOR_LOGVAR
    return model


def train_autoencoder(pool: Pool, n_steps: int, seed: int, work: Path) -> tuple[AutoencoderKL, list[dict]]:
    """Train for `n_steps`, resuming from `work`; returns the model, latents normalised, and the log of its L1."""
    torch.manual_seed(seed)
    model = new_autoencoder()
    log = LossLog("autoencoder", n_steps)
    _fit(model, pool, PEAK_LR, log, seed, 1, work)
    normalise_latents(model, encode(model, pool.pixels[:N_STATISTICS]))
    return model, log.lines


def sharpen_decoder(model: AutoencoderKL, pool: Pool, n_steps: int, seed: int, work: Path) -> list[dict]:
    """Train the decoder alone for `n_steps` more, in place; returns the log of its L1.

    The encoder, and so every latent that the UNet has learned, stays as it is: this may come last, and costs less.
    """
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    model.post_quant_conv.requires_grad_(True)
    log = LossLog("decoder", n_steps)
    _fit(model, pool, DECODER_PEAK_LR, log, seed, 3, work)
    return log.lines


def _fit(model: AutoencoderKL, pool: Pool, peak_lr: float, log: LossLog, seed: int, phase: int, work: Path) -> None:
    """Train what `model` has thawed, resuming from `work`; the model is frozen and in evaluation mode afterwards."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, betas=(0.9, 0.99), weight_decay=0.0)
    path = work / f"{log.name}.pt"
    if saved := load_checkpoint(path):
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        log.lines = saved["log"]
    for step in range(log.next_step, log.n_steps):
        generator = generator_at(seed, phase, step)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, log.n_steps, peak_lr)
        pixels = autoencoder_batch(pool, BATCH_SIZE, generator)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = model.decode(_with_noise(model.encode(pixels).latent_dist.mean, generator)).sample
        l1 = (decoded.float() - pixels).abs().mean()
        loss = l1 + _edge_l1(decoded.float(), pixels)
        loss += COLOUR_WEIGHT * _colour_error(decoded.float(), pixels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if log.add(step, l1.item()):
            save_checkpoint(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "log": log.lines})
    model.eval().requires_grad_(False)


def _with_noise(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Latents (B, 8, h, w) with Gaussian noise of LATENT_NOISE times each channel's spread in the batch.

    A denoiser that trained for an hour leaves errors of this size. A decoder that never met them shows scribble where a
    face was meant: without this, noise of 0.5 took a subject from 0.60 to 0, with it to 0.50. The noise scales
    with the latents, so that the encoder cannot outgrow it; it takes the place of the usual KL term.
    """
    spread = latents.float().std(dim=(0, 2, 3), keepdim=True)
    return latents + LATENT_NOISE * spread * torch.randn(latents.shape, generator=generator)


@torch.no_grad()
def encode(model: AutoencoderKL, pixels: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """Posterior means, unscaled: (N, 3, H, W) uint8 to (N, 8, H / 4, W / 4) float32."""
    chunks = (chunk.float() / 127.5 - 1 for chunk in pixels.split(batch_size))
    return torch.cat([model.encode(chunk).latent_dist.mean for chunk in chunks])


@torch.no_grad()
def normalise_latents(model: AutoencoderKL, latents: torch.Tensor) -> None:
    """Give every latent channel mean 0 and standard deviation 1 / SCALING_FACTOR, decoded pictures unchanged.

    Stable Diffusion has one factor for all channels and no offset. The two 1x1 convolutions around the latents take up
    what each channel needs, so that this one factor is right for every one of them.
    """
    mean = latents.mean(dim=(0, 2, 3))
    gain = 1 / (SCALING_FACTOR * latents.std(dim=(0, 2, 3)))
    to_moments, from_latents = model.quant_conv, model.post_quant_conv
    n = len(mean)
    from_latents.bias += (from_latents.weight[:, :, 0, 0] * mean).sum(dim=1)
    from_latents.weight /= gain[None, :, None, None]
    to_moments.weight[:n] *= gain[:, None, None, None]
    to_moments.bias[:n] = (to_moments.bias[:n] - mean) * gain
    to_moments.bias[n:] += 2 * gain.log()


def _edge_l1(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of horizontal and of vertical neighbour differences: it keeps edges sharp."""
    error = decoded - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def _colour_error(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of 4 x 4 means, in lightness and two colour differences.

    Squared, because most pixels here are nearly grey: absolute error alone is content with grey pictures for a thousand
    steps, and an orange cup comes out grey, or pink.
    """
    means = torch.nn.functional.avg_pool2d(decoded - target, 4)
    return torch.einsum("dc,bchw->bdhw", torch.tensor(OPPONENT), means).square().mean()
