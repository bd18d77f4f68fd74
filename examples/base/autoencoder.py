"""The first phase: an AutoencoderKL that turns a 64 px crop into 4 x 16 x 16 latents and back."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from examples.base.pixels import CROP_PX
from examples.base.pool import Pool, autoencoder_batch
from examples.base.training import LossLog, generator_at, load_checkpoint, one_cycle, save_checkpoint

PHASE = 1
BATCH_SIZE = 8
PEAK_LR = 1.5e-3
KL_WEIGHT = 1e-6
N_STATISTICS = 1536  # crops that the latents' mean and spread are measured on
SCALING_FACTOR = 0.2  # latents are normalised to a standard deviation of 1 / SCALING_FACTOR


def new_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: three levels, one residual block in each, 0.7 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=CROP_PX,
        scaling_factor=SCALING_FACTOR,
    )


def train_autoencoder(pool: Pool, n_steps: int, seed: int, work: Path) -> tuple[AutoencoderKL, list[dict]]:
    """Train for `n_steps`, resuming from `work`; returns the model, latents normalised, and the log of its L1."""
    torch.manual_seed(seed)
    model = new_autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.0)
    lines, first = [], 0
    if saved := load_checkpoint(work / "autoencoder.pt"):
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        lines, first = saved["log"], saved["step"]
    log = LossLog("autoencoder", n_steps, lines)
    for step in range(first, n_steps):
        generator = generator_at(seed, PHASE, step)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, n_steps, PEAK_LR)
        pixels = autoencoder_batch(pool, BATCH_SIZE, generator)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            decoded = model.decode(posterior.sample(generator)).sample
        l1 = (decoded.float() - pixels).abs().mean()
        loss = l1 + _edge_l1(decoded.float(), pixels) + _colour_l1(decoded.float(), pixels)
        loss = loss + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if log.add(step, l1.item()):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(work / "autoencoder.pt", state | {"log": log.lines, "step": step + 1})
    model.eval().requires_grad_(False)
    normalise_latents(model, encode(model, pool.pixels[:N_STATISTICS]))
    return model, log.lines


@torch.no_grad()
def encode(model: AutoencoderKL, pixels: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """Posterior means, unscaled: (N, 3, H, W) uint8 to (N, 4, H / 4, W / 4) float32."""
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


def _colour_l1(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Twice the mean absolute difference of 4 x 4 means. Without it the latents spend themselves on texture first, and
    after a thousand steps an orange cup is still pink."""
    return 2 * torch.nn.functional.avg_pool2d(decoded - target, 4).abs().mean()
