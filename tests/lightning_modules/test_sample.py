"""`licet sample` on a tiny random model, with a manifest of real photos and an adapter in diffusers' format."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from examples.photos.views import View, coffee_views, subject_views
from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Purpose
from licet.records import Sample, row_id_of
from licet.shards import open_writer
from licet.shards.index import content_hash, file_sha256, index_path, total_by
from lightning_modules.adapters.export import export_adapter
from lightning_modules.adapters.load import load_adapter
from lightning_modules.adapters.lora import LoraShape, inject, lora_layers, trainable_parameters
from lightning_modules.diffusion.contact_sheet import CELL_PX
from lightning_modules.diffusion.families.sd15 import load_family, weights_hash
from lightning_modules.sample import main

SIZE_PX = 16
SEEDS = 3


def as_sample(view: View, source_id: str) -> Sample:
    url = f"http://photos.example/{view.name}.png"
    return Sample(
        key=row_id_of(source_id, url, 0), payload=view.data, payload_format="png", caption=view.caption, width=256,
        height=256, original_width=256, original_height=256, sha256=hashlib.sha256(view.data).hexdigest(), phash="",
        source_id=source_id, source_url=url, source_page="", licence="CC0-1.0", licence_url="", creator="Somebody",
        attribution="By somebody", language="en", rights="{}", decision="licence-allowed",
    )  # fmt: skip


def manifest_of(folder: Path, views: dict[str, list[View]]) -> Manifest:
    """A manifest with one Parquet shard for each source."""
    entries = []
    for source_id, group in views.items():
        path = str(folder / f"{source_id}.parquet")
        with open_writer("parquet", path) as writer:
            for view in group:
                writer.add(as_sample(view, source_id))
            index = writer.close()
        counts = {c: total_by([index], c) for c in ("licence", "language", "source_id")}
        file = ShardFile(
            path, file_sha256(path), Path(path).stat().st_size, index_path(path), file_sha256(index_path(path))
        )
        entry = ShardEntry(
            unit_id=source_id,
            rows=len(group),
            live_rows=len(group),
            content=content_hash(index.table.column("content").to_pylist()),
            licences=counts["licence"],
            languages=counts["language"],
            sources=counts["source_id"],
            files={"parquet": file},
        )
        entries.append(entry)
    return write_manifest(folder / "manifest.json", entries, Purpose.COMMERCIAL_TRAINING, "policy")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    views = {
        "cat": [v for v in subject_views() if not v.held_out],
        "cat-held-out": [v for v in subject_views() if v.held_out],
        "cup": list(coffee_views()),
    }
    return manifest_of(tmp_path_factory.mktemp("data"), views)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, base, manifest) -> Path:
    """An adapter of random weights, large enough to change what is drawn."""
    model = load_family(base)
    inject(model, LoraShape(rank=4, alpha=4), text_encoder=True, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in trainable_parameters(model).values():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("adapter")
    header = {
        "licet.manifest": manifest.identity,
        "licet.sources": '{"cat": 6}',
        "licet.base_weights": weights_hash(base),
    }
    export_adapter(model, folder, header)
    return folder


def flags(base: Path, output: Path, *more: object) -> list[str]:
    fixed = [
        "--base",
        base,
        "--output",
        output,
        "--size_px",
        SIZE_PX,
        "--steps",
        2,
        "--seeds",
        SEEDS,
        "--batch_size",
        2,
    ]
    return [str(f) for f in (*fixed, "--device", "cpu", *more)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, base, manifest, adapter) -> Path:
    """The output folder of a whole comparison."""
    output = tmp_path_factory.mktemp("out")
    groups = ("--held_out_sources", '["cat-held-out"]', "--control_sources", '["cup"]')
    assert main(flags(base, output, "--adapter", adapter, "--manifest", manifest.path, *groups)) == 0
    return output


@pytest.fixture(scope="module")
def report(compared) -> dict:
    return json.loads((compared / "samples.json").read_text())


def test_the_report_has_every_figure(report, manifest):
    assert [row["seed"] for row in report["images"]] == [0, 1, 2]
    for name in ("similarity", "control", "class_similarity", "leak"):
        before = [row[f"{name}_before"] for row in report["images"]]
        after = [row[f"{name}_after"] for row in report["images"]]
        assert report[f"{name}_before"] == pytest.approx(np.mean(before))
        assert report[f"{name}_gain"] == pytest.approx(np.mean(after) - np.mean(before))
        assert report[f"{name}_gain_lower_bound"] <= report[f"{name}_gain"] + 1e-12
    assert report["manifest"] == report["adapter_manifest"] == manifest.identity
    assert report["settings"]["prompt"] == "a photo of sks cat"
    assert set(report["seconds"]) == {"load", "draw", "measure"}


def test_the_groups_are_the_sources_that_were_named(report):
    references = report["references"]
    assert references["similarity_is_measured_against"] == "held_out"
    assert [len(references[g]["keys"]) for g in ("training", "held_out", "control")] == [6, 8, 6]
    trained_on = {as_sample(v, "cat").key for v in subject_views() if not v.held_out}
    assert set(references["training"]["keys"]) == trained_on  # the adapter's header named the source
    assert {row["nearest_training_key"] for row in report["images"]} <= trained_on
    assert all(row["nearest_training_rms"] > 10 for row in report["images"])  # noise is nobody's copy


def cells(picture: np.ndarray) -> list[np.ndarray]:
    """Every cell of a sheet: runs of CELL_PX inked lines, and in them runs of inked columns."""
    inked = (picture != 255).any(axis=2)
    found = []
    for top, bottom in runs(inked.mean(axis=1) > 0.1):
        if bottom - top == CELL_PX:
            found += [picture[top:bottom, left:right] for left, right in runs(inked[top:bottom].mean(axis=0) > 0.5)]
    return found


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_the_picture_shows_the_subject_each_seed_and_the_class(compared):
    with Image.open(compared / "samples.png") as image:
        picture = np.asarray(image)
    assert picture.shape[1] == 2 * 32 + 6 * CELL_PX + 4 * 10 + 34
    assert (picture[:30] == 255).all() and (picture[:, :30] == 255).all() and (picture[:, -30:] == 255).all()
    found = [c for c in cells(picture) if c.shape == (CELL_PX, CELL_PX, 3)]
    assert len(found) == 6 + 3 * SEEDS + 2 * SEEDS
    assert all(cell.std() > 2 for cell in found)
    before, after, nearest = found[6:9]
    assert np.abs(before.astype(float) - after).mean() > 2
    assert nearest.std() > 20  # a real photo


def test_the_same_command_draws_and_measures_the_same(compared, report, tmp_path, base, manifest, adapter):
    groups = ("--sources", '["cat"]', "--held_out_sources", '["cat-held-out"]', "--control_sources", '["cup"]')
    assert main(flags(base, tmp_path, "--adapter", adapter, "--manifest", manifest.path, *groups)) == 0
    again = json.loads((tmp_path / "samples.json").read_text())
    assert again["images"] == report["images"]
    assert (tmp_path / "samples.png").read_bytes() == (compared / "samples.png").read_bytes()


def test_before_is_the_base_model_alone(report, tmp_path, base, manifest):
    """Neither loading an adapter nor switching it off leaves a trace."""
    groups = ("--sources", '["cat"]', "--held_out_sources", '["cat-held-out"]')
    assert main(flags(base, tmp_path, "--manifest", manifest.path, *groups)) == 0
    alone = json.loads((tmp_path / "samples.json").read_text())
    before = [row["similarity_before"] for row in report["images"]]
    assert [row["similarity_before"] for row in alone["images"]] == pytest.approx(before, abs=1e-6)
    assert "similarity_after" not in alone
    assert (tmp_path / "samples.png").exists()


def test_without_a_manifest_it_only_draws(tmp_path, base):
    assert main(flags(base, tmp_path)) == 0
    report = json.loads((tmp_path / "samples.json").read_text())
    assert report["manifest"] is None and "images" not in report
    with Image.open(tmp_path / "samples.png") as picture:
        found = cells(np.asarray(picture))
    assert [c.shape for c in found] == [(CELL_PX, CELL_PX, 3)] * SEEDS


def test_an_adapter_of_another_manifest_is_refused(tmp_path, base, adapter, capsys):
    other = manifest_of(tmp_path, {"cat": [v for v in subject_views() if not v.held_out][:2]})
    output = tmp_path / "out"
    arguments = flags(base, output, "--adapter", adapter, "--manifest", other.path)
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert other.identity[:12] in message and "--allow_other_manifest" in message
    assert not output.exists()
    assert main([*arguments, "--allow_other_manifest", "true"]) == 0
    assert (output / "samples.json").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path, v_base, adapter, manifest, capsys):
    arguments = flags(v_base, tmp_path / "out", "--adapter", adapter, "--manifest", manifest.path)
    assert main(arguments) == 1
    assert weights_hash(v_base)[:12] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_adapter_is_an_error_in_a_sentence(tmp_path, base, adapter, manifest, capsys):
    whole = next(adapter.glob("*.safetensors"))
    (tmp_path / whole.name).write_bytes(whole.read_bytes()[:-100])
    assert main(flags(base, tmp_path / "out", "--adapter", tmp_path, "--manifest", manifest.path)) == 1
    assert "is not a safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--seeds", "many"], "seeds"),
        (["--size_px", "17"], "multiples"),
        (["--sources", '["cat"]'], "--manifest"),
        (["--adapter", "nowhere"], "--manifest"),
        (["--no_such_flag", "1"], "no_such_flag"),
    ],
)
def test_a_wrong_flag_exits_with_2_and_writes_nothing(tmp_path, base, wrong, told, capsys):
    assert main([*flags(base, tmp_path / "out"), *wrong]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sources_that_the_manifest_lacks_exit_with_2(tmp_path, base, manifest, adapter, capsys):
    more = ("--adapter", adapter, "--manifest", manifest.path, "--held_out_sources", '["dog"]')
    assert main(flags(base, tmp_path / "out", *more)) == 2
    assert "dog" in capsys.readouterr().err


def test_an_adapter_that_is_not_there_exits_with_2(tmp_path, base, manifest, capsys):
    assert main(flags(base, tmp_path, "--adapter", tmp_path / "none", "--manifest", manifest.path)) == 2
    assert "there is no adapter" in capsys.readouterr().err


def test_the_config_in_the_repository_is_understood():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "lightning_modules.sample", "--config", "configs/sample/compare.yaml"]
    result = subprocess.run([*command, "--print_config"], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "held_out_sources:\n- chelsea-held-out" in result.stdout


def test_a_loaded_adapter_draws_what_plain_diffusers_draws(base, adapter):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None, requires_safety_checker=False)
    pipeline.load_lora_weights(adapter)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a photo of sks cat", num_inference_steps=3, guidance_scale=3.0, height=SIZE_PX, width=SIZE_PX,
        generator=torch.Generator().manual_seed(5), output_type="np",
    ).images[0]  # fmt: skip
    model = load_family(base)
    load_adapter(model, adapter)
    ours = model.sample(["a photo of sks cat"], seeds=[5], steps=3, guidance_scale=3.0)[0].numpy()
    assert np.abs(np.round(theirs * 255) - ours).max() <= 1
    plain = load_family(base).sample(["a photo of sks cat"], seeds=[5], steps=3, guidance_scale=3.0)[0].numpy()
    assert np.abs(ours.astype(float) - plain).mean() > 2


def test_an_adapter_of_the_unet_alone_loads(tmp_path, base):
    model = load_family(base)
    inject(model, LoraShape(rank=2, alpha=2), text_encoder=False, seed=0)
    export_adapter(model, tmp_path)
    loaded = load_family(base)
    load_adapter(loaded, tmp_path)
    assert len(lora_layers(loaded.unet)) == len(lora_layers(model.unet)) > 0
    assert not lora_layers(loaded.text_encoder)


def test_an_adapter_for_a_model_of_another_shape_is_refused(tmp_path, base, adapter, manifest, capsys):
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = {f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(32, 2)}
    safetensors.torch.save_file(weights, tmp_path / next(adapter.glob("*.safetensors")).name)
    more = ("--adapter", tmp_path, "--manifest", manifest.path, "--allow_other_manifest", "true")
    assert main(flags(base, tmp_path / "out", *more)) == 1
    assert "does not fit the base model" in capsys.readouterr().err
