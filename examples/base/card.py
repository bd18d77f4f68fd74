"""The base model's card: what it was trained on, with every credit, and how; for people and as data."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.numpy import load_file

from examples.base.pixels import SUBJECT_KEY, TrainingPhoto
from licet.manifest import Manifest

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# tiny_sd: a Stable Diffusion of {n_parameters_m:.1f} million parameters

A base model to learn and test with: 64 x 64 pixels, trained from nothing on {n_photos} licensed photos. It ships with
licet so that fine-tuning can be shown, and tested, on a laptop with no account, no download and no GPU.

Made by `python -m examples.base.make_base` (`make base`). Plain diffusers loads it:

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("lightning_modules/assets/tiny_sd")
image = pipeline("a photo of a cat", num_inference_steps=25, guidance_scale=3.0).images[0]
```

## Data

Every photo is one that scikit-image or scikit-learn ships, with the licence that those packages document. licet
ingested them and refused those without one; the manifest is in `data/` (identity `{manifest}`).

| prompt | licence | credit | page |
|---|---|---|---|
{photos}

Crops of these photos are all that it was trained on: {crops} of them, drawn with seed {seed}, with small changes of
shape and colour. Every crop of the cat was recoloured (grey, black, white, blue, purple, green, pink) and reshaped, so
that the model knows cats but has not seen this cat as she is: fine-tuning has her left to learn. Captions are the
prompts above; one in ten is empty, and four cats in ten are called by their colour ("a photo of a grey cat", "a photo
of grey cat"). The word "sks" was never used.

The tokenizer is CLIP's byte-pair encoding (OpenAI, MIT licence) cut to its first 8,192 merges and those that the words
above need; it reads {max_tokens} tokens.

## Training

| part | parameters | steps | batch | last loss | minutes |
|---|---|---|---|---|---|
| AutoencoderKL | {vae_parameters:,} | {ae_steps} | 16 | {ae_loss} (L1, pixels in [-1, 1]) | {ae_minutes:.0f} |
| its decoder alone, at the end | | {decoder_steps} | 16 | {decoder_loss} (L1) | {decoder_minutes:.0f} |
| UNet and text encoder | {denoiser_parameters:,} | {unet_steps} | 16 | {unet_loss} (v, MSE) | {unet_minutes:.0f} |

AdamW, one warm-up and cosine for each, {threads} CPU thread(s), bfloat16 autocast, seed {seed}; the UNet and the text
encoder are exponential moving averages. The UNet and the autoencoder are
stored as float16. The network predicts v, not epsilon: read
`prediction_type` from the scheduler's configuration. Losses by step: `training.json`.

## Intended use and limits

For demonstrations, tests and teaching of the tools around diffusion models; for nothing else. It has seen {n_photos}
photos: what it draws are variations of them, and "a photo of an astronaut" resembles the one person in its photo. It
does not know any prompt but those above, it knows one pose for a cat, and 64 pixels hold little detail. There is no
safety checker, because there is nothing in its data to check for.
"""


def write_card(
    out: Path, photos: list[TrainingPhoto], manifest: Manifest, args: dict[str, Any], logs: dict[str, list[dict]]
) -> None:
    """Write `README.md` and `training.json` beside the weights in `out`."""
    sizes = {part: _n_parameters(out / part) for part in ("vae", "unet", "text_encoder")}
    tokenizer = json.loads((out / "tokenizer" / "tokenizer_config.json").read_text())
    card = CARD.format(
        n_parameters_m=sum(sizes.values()) / 1e6,
        n_photos=len(photos),
        manifest=manifest.identity,
        photos="\n".join(_row(photo) for photo in photos),
        crops=args["crops"],
        seed=args["seed"],
        threads=args["threads"],
        max_tokens=tokenizer["model_max_length"],
        vae_parameters=sizes["vae"],
        denoiser_parameters=sizes["unet"] + sizes["text_encoder"],
        **_summary("ae", logs["autoencoder"]),
        **_summary("decoder", logs["decoder"]),
        **_summary("unet", logs["denoiser"]),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    record = {
        "script": "examples/base/make_base.py",
        "arguments": {name: value for name, value in args.items() if not isinstance(value, Path)},
        "versions": {module.__name__: module.__version__ for module in (torch, diffusers, transformers)},
        "manifest": manifest.identity,
        "photos": [photo.key for photo in photos],
        "parameters": sizes,
        "losses": logs,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _summary(name: str, lines: list[dict]) -> dict[str, Any]:
    """The card's fields on one phase: its steps, its last loss, and how long it took."""
    minutes = sum(line["seconds"] for line in lines) / 60
    return {f"{name}_steps": lines[-1]["step"], f"{name}_loss": lines[-1]["loss"], f"{name}_minutes": minutes}


def _row(photo: TrainingPhoto) -> str:
    note = " (recoloured and reshaped)" if photo.key == SUBJECT_KEY else ""
    return f"| {photo.class_prompt}{note} | {photo.licence} | {photo.credit} | <{photo.source_page}> |"


def _n_parameters(folder: Path) -> int:
    """Elements of every tensor in a folder's safetensors files."""
    return sum(tensor.size for path in folder.glob("*.safetensors") for tensor in load_file(path).values())
