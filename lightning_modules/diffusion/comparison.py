"""Draw a subject and its class before and after training, and measure what changed.

    references = read_references(manifest, options, header)     the subject, trained on or held out; another subject
    drawn = draw_all(model, options)                            the same seeds, adapter off and on
    report = measure(drawn, references)                         what samples.json holds
    sheet(drawn, references, report, options)                   what samples.png shows

This module must not know of training. Scores are those of `lightning_modules.diffusion.similarity`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from licet.manifest import Manifest
from licet.selection import Where, select
from lightning_modules.adapters.load import SOURCES_KEY
from lightning_modules.adapters.lora import adapter_off, lora_layers
from lightning_modules.data.stream import Part, Rows, decode_image
from lightning_modules.diffusion.contact_sheet import Cell, Section, draw_sheet
from lightning_modules.diffusion.families.sd15 import StableDiffusion
from lightning_modules.diffusion.options import SampleOptions
from lightning_modules.diffusion.similarity import SubjectSimilarity, class_similarity, paired_bootstrap_lower_bound

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Photos:
    """Images of a manifest: uint8 (H, W, 3) each, under their keys. `left_out` counts those not read."""

    keys: Sequence[str]
    pixels: Sequence[np.ndarray]
    left_out: int = 0


@dataclass(frozen=True)
class References:
    """What drawn images are compared with. `held_out` and `control` may be absent."""

    training: Photos
    held_out: Photos | None
    control: Photos | None

    @property
    def subject(self) -> Photos:
        """The subject's images that similarity is measured against."""
        return self.held_out or self.training


@dataclass(frozen=True)
class Drawn:
    """Images uint8 (N, H, W, 3), the i-th of each from the same seed. After and class images only with an adapter."""

    seeds: Sequence[int]
    before: np.ndarray
    after: np.ndarray | None = None
    class_before: np.ndarray | None = None
    class_after: np.ndarray | None = None
    class_references: np.ndarray | None = None
    """The base model's images of the class, from other seeds: what drift is measured against."""


def read_references(manifest: Manifest, options: SampleOptions, header: Mapping[str, str]) -> References:
    """The images to compare with. Raises `UsageError` for sources that the manifest does not hold.

    Where the options name no source that was trained on, the adapter's header does.
    """
    trained_on = options.sources or list(json.loads(header.get(SOURCES_KEY, "{}")))

    def optional(sources: Sequence[str]) -> Photos | None:
        return read_photos(manifest, sources, options.max_images) if sources else None

    return References(
        training=read_photos(manifest, trained_on, options.max_images),
        held_out=optional(options.held_out_sources),
        control=optional(options.control_sources),
    )


def read_photos(manifest: Manifest, sources: Sequence[str], max_images: int) -> Photos:
    """At most `max_images` images of these sources, spread evenly over them; of every source when none is named."""
    rows = Rows([Part(manifest, select(manifest, Where(sources=tuple(sources))))])
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), max_images)).round().astype(int))
    samples = [rows[int(place)] for place in places]
    pixels = [np.asarray(decode_image(sample)) for sample in samples]
    return Photos([sample.key for sample in samples], pixels, left_out=len(rows) - len(samples))


def describe(references: References | None) -> dict[str, Any]:
    """Which images were compared with, ready for JSON."""
    if references is None:
        return {}
    groups = {"training": references.training, "held_out": references.held_out, "control": references.control}
    return {
        "similarity_is_measured_against": "held_out" if references.held_out else "training",
        **{name: {"keys": list(g.keys), "left_out": g.left_out} for name, g in groups.items() if g},
    }


def draw_all(model: StableDiffusion, options: SampleOptions) -> Drawn:
    """Draw every seed with the adapter off, and on if the model has one."""
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    if not lora_layers(model):
        return Drawn(seeds, before=_draw(model, options.prompt, seeds, options))
    other_seeds = [seed + options.seeds for seed in seeds]
    with adapter_off(model):
        before = _draw(model, options.prompt, seeds, options)
        class_before = _draw(model, options.class_prompt, seeds, options)
        class_references = _draw(model, options.class_prompt, other_seeds, options)
    after = _draw(model, options.prompt, seeds, options)
    class_after = _draw(model, options.class_prompt, seeds, options)
    return Drawn(seeds, before, after, class_before, class_after, class_references)


def _draw(model: StableDiffusion, prompt: str, seeds: Sequence[int], options: SampleOptions) -> np.ndarray:
    """Images of one prompt, uint8 (N, H, W, 3); an image does not depend on its batch mates' seeds."""
    batches = []
    for start in range(0, len(seeds), options.batch_size):
        batch = seeds[start : start + options.batch_size]
        images = model.sample(
            [prompt] * len(batch), seeds=batch, steps=options.steps, guidance_scale=options.guidance_scale,
            height_px=options.size_px, width_px=options.size_px,
        )  # fmt: skip
        batches.append(images)
    return torch.cat(batches).numpy()


def measure(drawn: Drawn, references: References | None) -> dict[str, Any]:
    """Scores of every image and what follows from them, ready for JSON; an empty dict without references."""
    if references is None:
        return {}
    subject = SubjectSimilarity(references.subject.pixels)
    columns: dict[str, np.ndarray] = {"similarity_before": subject.score(drawn.before)}
    if references.control:
        control = SubjectSimilarity(references.control.pixels)
        columns["control_before"] = control.score(drawn.before)
    if drawn.after is not None:
        columns["similarity_after"] = subject.score(drawn.after)
        if references.control:
            columns["control_after"] = control.score(drawn.after)
        columns["class_similarity_before"] = class_similarity(drawn.class_references, drawn.class_before)
        columns["class_similarity_after"] = class_similarity(drawn.class_references, drawn.class_after)
        columns["leak_before"] = subject.score(drawn.class_before)
        columns["leak_after"] = subject.score(drawn.class_after)
    report: dict[str, Any] = {name: float(scores.mean()) for name, scores in columns.items()}
    if drawn.after is not None:
        report |= _gain("similarity", columns) | (_gain("control", columns) if references.control else {})
        report |= _gain("leak", columns) | _gain("class_similarity", columns)
    nearest = _nearest_training(drawn.before if drawn.after is None else drawn.after, references.training)
    report["images"] = [
        {"seed": seed, **{name: float(scores[i]) for name, scores in columns.items()}, **nearest[i]}
        for i, seed in enumerate(drawn.seeds)
    ]
    return report


def _gain(name: str, columns: dict[str, np.ndarray]) -> dict[str, float]:
    before, after = columns[f"{name}_before"], columns[f"{name}_after"]
    return {
        f"{name}_gain": float((after - before).mean()),
        f"{name}_gain_lower_bound": paired_bootstrap_lower_bound(before, after, CONFIDENCE),
    }


def _nearest_training(images: np.ndarray, training: Photos) -> list[dict[str, Any]]:
    """For each image the training image most similar to it, and how far its pixels are: 0 is a copy, or its mirror."""
    pairwise = SubjectSimilarity(training.pixels).pairwise(images)
    found = []
    for image, scores in zip(images, pairwise, strict=True):
        distances = [_rms(image, photo) for photo in training.pixels]
        place = max(range(len(distances)), key=lambda i: (scores[i], -distances[i]))
        found.append(
            {
                "nearest_training_key": training.keys[place],
                "nearest_training_similarity": float(scores[place]),
                "nearest_training_rms": distances[place],
            }
        )
    return found


def _rms(image: np.ndarray, photo: np.ndarray) -> float:
    """Root mean square of the pixels' differences, 0..255, from a photo or its mirror, whichever is nearer."""
    resized = np.asarray(Image.fromarray(photo).resize(image.shape[1::-1], Image.Resampling.LANCZOS)).astype(float)
    return float(min(np.sqrt(((image - side) ** 2).mean()) for side in (resized, resized[:, ::-1])))


# --- the picture ------------------------------------------------------------------------------------------------------

GROUPS, REFERENCES_SHOWN = 2, 6


def sheet(drawn: Drawn, references: References | None, report: dict[str, Any], options: SampleOptions) -> Image.Image:
    """The picture for people: the subject; each seed before and after with the nearest training photo; the class."""
    sections = []
    if references is not None:
        held_out = "never trained on" if references.held_out else "trained on"
        photos = [Cell(p) for p in references.subject.pixels[:REFERENCES_SHOWN]]
        sections.append(Section(f"Photos of the subject, {held_out}", _rows(photos, REFERENCES_SHOWN)))
    title = f'"{options.prompt}", drawn by {Path(options.base).name}'
    if drawn.after is None or references is None:
        cells = [Cell(image, f"seed {s}") for image, s in zip(drawn.before, drawn.seeds, strict=True)]
        sections.append(Section(f'"{options.prompt}"', _rows(cells[: options.seeds_shown], REFERENCES_SHOWN)))
        return draw_sheet(title, figures(report), sections, columns_per_group=REFERENCES_SHOWN)
    training = dict(zip(references.training.keys, references.training.pixels, strict=True))
    triples: list[Cell] = []
    for i, row in enumerate(report["images"][: options.seeds_shown]):
        triples += [
            Cell(drawn.before[i], f"seed {row['seed']}: {row['similarity_before']:.2f}"),
            Cell(drawn.after[i], f"seed {row['seed']}: {row['similarity_after']:.2f}"),
            Cell(training[row["nearest_training_key"]], f"pixels differ by {row['nearest_training_rms']:.0f} of 255"),
        ]
    heads = ("before training", "after training", "nearest training photo") * min(GROUPS, len(triples) // 3)
    sections.append(Section(f'"{options.prompt}", with similarity to the subject', _rows(triples, 3 * GROUPS), heads))
    pairs = [
        Cell(image, f"seed {drawn.seeds[i]}: {when}")
        for when, images in (("before", drawn.class_before), ("after", drawn.class_after))
        for i, image in enumerate(images[: 3 * GROUPS])
    ]
    rows = _rows(pairs, min(len(drawn.seeds), 3 * GROUPS))
    sections.append(Section(f'"{options.class_prompt}", which should stay what it was', rows))
    return draw_sheet(f"{title}, before and after training", figures(report), sections, columns_per_group=3)


def _rows(cells: Sequence[Cell], columns: int) -> list[list[Cell]]:
    return [list(cells[start : start + columns]) for start in range(0, len(cells), columns)]


def figures(report: dict[str, Any]) -> list[str]:
    """The main figures in words; nothing where nothing was compared."""
    if "similarity_after" not in report:
        return []

    def change(name: str) -> str:
        return f"{report[f'{name}_before']:.2f} before, {report[f'{name}_after']:.2f} after"

    bound, n_seeds = report["similarity_gain_lower_bound"], len(report["images"])
    lines = [
        f"Similarity to the subject, from 0 to 1: {change('similarity')}. Gain at least {bound:.2f} ({CONFIDENCE:.0%} "
        f"bootstrap over {n_seeds} seeds)."
    ]
    if "control_after" in report:
        lines.append(f"To another subject: {change('control')}.")
    lines.append(f"The class, to what it was: {change('class_similarity')}; to the subject: {change('leak')}.")
    return lines
