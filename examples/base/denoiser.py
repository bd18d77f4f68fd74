"""The second phase: a UNet2DConditionModel and a two-layer CLIPTextModel, trained together on latents."""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from examples.base.autoencoder import LATENT_CHANNELS
from examples.base.captions import draw_caption
from examples.base.pool import Pool
from examples.base.training import LossLog, cycles, generator_at, load_checkpoint, save_checkpoint

PHASE = 2
BATCH_SIZE = 16
PEAK_LR = 1e-3
EMA_DECAY = 0.999
TEXT_WIDTH = 64


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's kind of noise schedule, to a noisier end; the network predicts v (arXiv:2202.00512).

    With Stable Diffusion's own `beta_end` (0.012) 7 % of a picture is left at the last step. On 16 x 16 latents that
    shows a picture's overall colour, so the network learns to read the coat there, and no longer in the prompt
    (arXiv:2305.08891). With 0.02 it is 1.6 %.

    At the noisiest step an error in a predicted epsilon is multiplied by about 15 in the picture; an error in v is not,
    which a small network, trained for minutes, needs to get overall colours right.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet of 3.9 M parameters for 8 x 16 x 16 latents; for speed, it attends at 8 x 8 only."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4),  # numbers of heads, despite the name: 32 channels in each
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for `tokenizer`, 0.7 M parameters, most of them embeddings."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Denoiser(torch.nn.Module):
    """The two networks as one, so that one optimizer, one average and one checkpoint hold both."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = new_unet()
        self.text_encoder = new_text_encoder(tokenizer)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """(B, 8, 16, 16), (B,) and (B, L) to the predicted v, (B, 8, 16, 16)."""
        return self.unet(noisy, timesteps, self.text_encoder(token_ids).last_hidden_state).sample


def train_denoiser(
    pool: Pool, latents: torch.Tensor, tokenizer: CLIPTokenizer, cycle_steps: list[int], seed: int, work: Path
) -> tuple[Denoiser, list[dict]]:
    """Train on scaled latents (N, 8, 16, 16) of the pool, resuming from `work`; averaged weights, loss log."""
    torch.manual_seed(seed)
    model, average = Denoiser(tokenizer), Denoiser(tokenizer)
    average.load_state_dict(model.state_dict())
    average.eval().requires_grad_(False)
    # No weight decay: embeddings of words that training never shows, the rare token's among them, stay as initialised.
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.0)
    log = LossLog("denoiser", sum(cycle_steps))
    if saved := load_checkpoint(work / "denoiser.pt"):
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        log.lines = saved["log"]
    scheduler = new_scheduler()
    for step in range(log.next_step, log.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = cycles(step, cycle_steps, PEAK_LR)
        loss = _loss(model, scheduler, pool, latents, tokenizer, generator_at(seed, PHASE, step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _move_average(average, model, min(EMA_DECAY, (1 + step) / (10 + step)))
        if log.add(step, loss.item()):
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(work / "denoiser.pt", state | {"log": log.lines})
    return average, log.lines


def _loss(
    model: Denoiser,
    scheduler: DDIMScheduler,
    pool: Pool,
    latents: torch.Tensor,
    tokenizer: CLIPTokenizer,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of v on one batch that `generator` draws: crops, captions, noise and timesteps."""
    index = torch.randint(len(pool), (BATCH_SIZE,), generator=generator)
    captions = [draw_caption(pool.class_prompts[i], pool.coats[i], generator) for i in index.tolist()]
    token_ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    clean = latents[index]
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (BATCH_SIZE,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(scheduler.add_noise(clean, noise, timesteps), timesteps, token_ids)
    return torch.nn.functional.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, timesteps))


@torch.no_grad()
def _move_average(average: Denoiser, model: Denoiser, decay: float) -> None:
    """Exponential moving average of the weights, in place."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
