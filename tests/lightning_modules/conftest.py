"""A tiny random Stable Diffusion made from configuration, and manifests of real photos in real shards."""

from __future__ import annotations

import hashlib
import io
import string
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest
import skimage.data
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Policy, Purpose
from licet.records import Sample
from licet.shards import EXTENSIONS, open_writer
from licet.shards.index import content_hash, file_sha256, index_path, total_by

SIZE_PX = 16


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two OpenMP threads on two busy cores are many times slower than one."""
    torch.set_num_threads(1)


def tiny_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that spells words letter by letter."""
    letters = string.ascii_lowercase + string.digits
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=24)


def save_tiny_base(folder: Path, prediction_type: str = "epsilon", licence: str = "CC0-1.0", seed: int = 0) -> Path:
    """Save a random Stable Diffusion for 16 px images (0.1 M parameters) in diffusers' layout."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIZE_PX,
            scaling_factor=0.5,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIZE_PX // 2,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n\n# A random model\n")
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """The folder of a random model that predicts epsilon."""
    return save_tiny_base(tmp_path_factory.mktemp("base") / "random_sd")


@pytest.fixture(scope="session")
def v_base(tmp_path_factory) -> Path:
    """The folder of a random model that predicts v."""
    return save_tiny_base(tmp_path_factory.mktemp("v_base") / "random_v", prediction_type="v_prediction", seed=1)


def photo_samples(source: str, count: int, licence: str = "CC-BY-4.0") -> list[Sample]:
    """Views of a real photo as stored samples: 24 x 20 px PNG."""
    photo = PIL.Image.fromarray(skimage.data.chelsea() if source == "cat" else skimage.data.astronaut())
    samples = []
    for i in range(count):
        payload = io.BytesIO()
        photo.crop((10 * i, 5 * i, 10 * i + 240, 5 * i + 200)).resize((24, 20)).save(payload, "png")
        digest = hashlib.sha256(payload.getvalue()).hexdigest()
        samples.append(
            Sample(
                key=f"{source}-{i}",
                payload=payload.getvalue(),
                payload_format="png",
                caption=f"view {i}",
                width=24,
                height=20,
                original_width=240,
                original_height=200,
                sha256=digest,
                phash="",
                source_id=source,
                source_url=f"https://photos.example/{source}/{i}.png",
                source_page=f"https://photos.example/{source}/{i}",
                licence=licence,
                licence_url="",
                creator=f"Photographer of {source}",
                attribution=f"View {i} of {source}",
                language="en",
                rights="{}",
                decision="licence-with-obligations",
            )
        )
    return samples


def write_dataset(
    folder: Path, shards: list[list[Sample]], formats: tuple[str, ...] = ("tfrecord",), purpose="commercial-training"
) -> Manifest:
    """Shards in these formats and their manifest, as ingest and publish leave them."""
    (folder / "shards").mkdir(parents=True)
    entries = []
    for number, samples in enumerate(shards):
        files = {}
        for format in formats:
            name = f"shards/{number:02d}{EXTENSIONS[format]}"
            with open_writer(format, str(folder / name)) as writer:
                for sample in samples:
                    writer.add(sample)
            index = writer.close()
            path, beside = folder / name, index_path(str(folder / name))
            files[format] = ShardFile(
                name, file_sha256(str(path)), path.stat().st_size, index_path(name), file_sha256(beside)
            )
        counts = {
            name: total_by([index], column)
            for name, column in (("licences", "licence"), ("languages", "language"), ("sources", "source_id"))
        }
        content = content_hash(index.table.column("content").to_pylist())
        entries.append(ShardEntry(f"unit-{number}", len(index), len(index), content, files=files, **counts))
    return write_manifest(folder / "manifest.json", entries, Purpose(purpose), Policy(Purpose(purpose)).hash)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Manifest:
    """Seven views of a cat and five of a person, in three shards of two formats."""
    cats, people = photo_samples("cat", 7), photo_samples("person", 5, "CC0-1.0")
    shards = [cats[:4], cats[4:] + people[:2], people[2:]]
    return write_dataset(tmp_path_factory.mktemp("dataset"), shards, formats=("tfrecord", "lmdb"))


def train_arguments(base: Path, manifest: Path, run: Path, **flags: object) -> list[str]:
    """Arguments of `licet train fit` for a few fast steps; `flags` use __ for dots."""
    chosen = {
        "model.base": base,
        "data.manifest": manifest,
        "data.sources": '["cat"]',
        "data.instance_prompt": "a photo of sks cat",
        "data.class_prompt": "a photo of a cat",
        "data.batch_size": 2,
        "data.size_px": SIZE_PX,
        "data.crop": "random",
        "data.crop_scale": "[0.8, 1.0]",
        "data.flip_probability": 0.5,
        "data.num_workers": 1,
        "model.lora.rank": 2,
        "model.lora.alpha": 4,
        "model.learning_rate": 1e-2,
        "trainer.max_steps": 8,
        "trainer.accelerator": "cpu",
        "checkpoint.every_n_steps": 2,
        "samples.sampling_steps": 2,
        "samples.images_per_prompt": 2,
        "prior.count": 3,
        "prior.sampling_steps": 2,
        "prior.batch_size": 2,
        "run": run,
        **{name.replace("__", "."): value for name, value in flags.items()},
    }
    return ["fit", *(f"--{name}={value}" for name, value in chosen.items())]


@pytest.fixture(scope="session")
def make():
    """The functions above, for tests that need data or a base model of their own."""
    return SimpleNamespace(base=save_tiny_base, samples=photo_samples, dataset=write_dataset)


@pytest.fixture
def arguments(base, dataset, tmp_path):
    """Arguments of a short `fit` into tmp_path/run; flags with __ for dots."""

    def build(**flags: object) -> list[str]:
        return train_arguments(flags.pop("base", base), flags.pop("manifest", dataset.path), tmp_path / "run", **flags)

    return build


@pytest.fixture
def scalars():
    """Step -> value of a scalar, as TensorBoard's own reader finds it."""

    def read(run: Path, tag: str = "train/loss") -> dict[int, float]:
        accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
        return {event.step: event.value for event in accumulator.Scalars(tag)}

    return read
