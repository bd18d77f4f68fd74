"""Make the tiny Stable Diffusion base model from licensed photos: `make base`.

Ingests the photos with licet, trains an autoencoder, then a UNet with its text encoder, last the decoder once more and
alone, and writes a folder that plain diffusers loads. The same seed and steps give the same weights on one machine. A
killed run goes on where it was, from the checkpoints in `--work`; give other seeds or steps another folder.
"""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from examples.base.autoencoder import SCALING_FACTOR, encode, sharpen_decoder, train_autoencoder
from examples.base.captions import RARE_TOKEN, words_of
from examples.base.card import write_card
from examples.base.data import ingest_photos, keep_record, load_photos
from examples.base.denoiser import new_scheduler, train_denoiser
from examples.base.pixels import COATS
from examples.base.pool import draw_pool
from examples.base.tokens import small_tokenizer
from lightning_modules.assets import TINY_SD


def main() -> None:
    """Train, and write the pipeline, its card and its training record."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)

    manifest_path = ingest_photos(args.work / "data")
    photos = load_photos(manifest_path)
    pool = draw_pool(photos, args.crops, args.seed)
    print(f"{len(pool)} crops of {len(photos)} photos", flush=True)  # noqa: T201
    vae, vae_log = train_autoencoder(pool, args.ae_steps, args.seed, args.work)
    tokenizer = small_tokenizer(words_of(pool.class_prompts) | set(COATS) | {RARE_TOKEN})
    latents = encode(vae, pool.pixels) * SCALING_FACTOR
    denoiser, denoiser_log = train_denoiser(pool, latents, tokenizer, args.unet_steps, args.seed, args.work)
    decoder_log = sharpen_decoder(vae, pool, args.decoder_steps, args.seed, args.work)

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # The text encoder stays float32: transformers loads a model as it was saved, diffusers loads one as float32.
    pipeline.unet.to(torch.float16)
    pipeline.vae.to(torch.float16)
    pipeline.save_pretrained(args.out, safe_serialization=True)
    logs = {"autoencoder": vae_log, "denoiser": denoiser_log, "decoder": decoder_log}
    manifest = keep_record(manifest_path, args.out / "data")
    write_card(args.out, photos, manifest, vars(args), logs)
    print(f"wrote {args.out}", flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TINY_SD, help="folder for the finished pipeline")
    parser.add_argument("--work", type=Path, default=Path("build/base"), help="folder for data and checkpoints")
    parser.add_argument("--crops", type=int, default=6000, help="crops in the training pool")
    parser.add_argument("--ae-steps", type=int, default=2000, help="steps of 16 crops for the autoencoder")
    parser.add_argument("--unet-steps", type=int, nargs="+", default=[8000], help="steps of 16 latents, by cycle")
    parser.add_argument("--decoder-steps", type=int, default=600, help="steps of 16 crops for the decoder alone")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; the weights depend on it")
    parser.add_argument("--seed", type=int, default=0, help="of weights, crops, captions, noise and timesteps")
    return parser


if __name__ == "__main__":
    main()
