"""From a list of URLs to an adapter that knows its sources: what the demo leaves is what it says."""

import collections
import io
import json
import subprocess
import sys
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image

from licet.manifest import read_manifest, verify_manifest

ROOT = Path(__file__).resolve().parents[2]


def current_rows(demo) -> list[dict]:
    return DeltaTable(str(demo.out / "catalog" / "outcomes")).to_pyarrow_table().to_pylist()


def test_every_row_is_kept_or_rejected_with_a_reason(demo):
    planned = DeltaTable(str(demo.out / "catalog" / "plan")).to_pyarrow_table()["row_id"].to_pylist()
    rows = current_rows(demo)
    kept = [r for r in rows if r["state"] == "kept"]
    rejected = [r for r in rows if r["state"] == "rejected"]
    assert sorted(r["row_id"] for r in rows) == sorted(planned)
    assert len(kept) + len(rejected) == len(planned) == demo.summary["rows_in"]
    assert (len(kept), len(rejected)) == (demo.summary["kept"], sum(demo.summary["rejected"].values()))
    assert all(r["reason"] for r in rejected)
    assert all(r["licence"] and r["attribution"] and r["source_url"] for r in kept)


def test_what_was_planted_is_found(demo):
    by_url = {r["source_url"].split("/", 3)[3]: r for r in current_rows(demo)}
    assert by_url["photos/gone.jpg"]["reason"] == "http-status"
    assert by_url["photos/gone.jpg"]["http_status"] == 404
    assert by_url["photos/moved.jpg"]["reason"] == "not-an-image"
    copies = by_url["photos/flower.jpg"], by_url["copies/flower-again.jpg"]
    assert sorted(r["state"] for r in copies) == ["kept", "rejected"]
    dropped = next(r for r in copies if r["state"] == "rejected")
    assert dropped["reason"] == "duplicate"
    assert dropped["duplicate_of"] == next(r for r in copies if r["state"] == "kept")["row_id"]
    assert by_url["photos/moon.png"]["rule"] == "licence-unknown"


def test_the_server_was_never_asked_for_a_refused_row(demo):
    asked = [json.loads(line)["path"] for line in (demo.out / "requests.jsonl").read_text().splitlines()]
    denied = ["/" + r["source_url"].split("/", 3)[3] for r in current_rows(demo) if r["stage"] == "policy"]
    assert len(denied) >= 3
    assert set(asked).isdisjoint(denied)
    assert demo.summary["requests_for_denied_rows"] == 0


def test_other_readers_find_the_same_samples_in_all_four_formats(demo):
    import datasets
    import webdataset
    from tfrecord.reader import tfrecord_loader

    manifest = read_manifest(demo.out / "manifest.json")
    verify_manifest(manifest)
    found = collections.defaultdict(dict)
    for entry in manifest.entries():
        path = {format: manifest.resolve(file.path) for format, file in entry.files.items()}
        for record in tfrecord_loader(path["tfrecord"], None, {"key": "byte", "payload": "byte"}):
            found["tfrecord"][bytes(record["key"]).decode()] = bytes(record["payload"])
        for record in webdataset.WebDataset(path["webdataset"], shardshuffle=False):
            found["webdataset"][record["__key__"]] = record.get("jpg") or record.get("png")
        with (
            lmdb.open(path["lmdb"], subdir=False, readonly=True, lock=False) as environment,
            environment.begin() as read,
        ):
            for key, value in read.cursor():
                if len(key) == 8:
                    record = msgpack.unpackb(value)
                    found["lmdb"][record["key"]] = record["payload"]
        for record in pq.read_table(path["parquet"]).to_pylist():
            found["parquet"][record["key"]] = record["payload"]
        dataset = datasets.load_dataset("parquet", data_files=path["parquet"], split="train", streaming=True)
        for record in dataset:
            found["datasets"][record["key"]] = record["payload"]
    assert len(found) == 5
    assert len(found["tfrecord"]) == manifest.totals["rows"]
    assert all(samples == found["tfrecord"] for samples in found.values())


def test_the_report_names_every_credit_and_every_refused_row(demo):
    page = (demo.out / "audit" / "index.html").read_text()
    report = json.loads((demo.out / "audit" / "audit.json").read_text())
    rows = current_rows(demo)
    for row in rows:
        if row["state"] == "kept":
            assert row["creator"] in page
        else:
            assert row["source_url"] in page
    assert report["rows_in"] == len(rows)
    assert len(report["refused"]) == sum(r["state"] == "rejected" for r in rows)


def test_a_killed_trainer_went_on_bit_for_bit(demo):
    assert demo.summary["resume_identical"] is True
    assert demo.summary["killed_after_step"] > 0


def test_tensorboard_finds_the_losses_and_the_pictures(demo):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = {p.parent for p in (demo.out / "runs" / "dreambooth").rglob("events.out.tfevents.*")}
    accumulator = EventAccumulator(str(events), size_guidance={"images": 0, "scalars": 0}).Reload()
    tags = accumulator.Tags()
    assert {"train/loss", "train/loss_instance", "train/loss_prior"} <= set(tags["scalars"])
    assert any("learning_rate" in tag for tag in tags["scalars"])
    assert tags["images"]
    assert len({event.step for event in accumulator.Scalars("train/loss")}) == 12


def test_plain_diffusers_draws_what_our_sampler_draws(demo):
    import torch
    from diffusers import StableDiffusionPipeline

    from lightning_modules.adapters.load import load_adapter
    from lightning_modules.assets import TINY_SD
    from lightning_modules.diffusion.families.sd15 import load_family

    settings = json.loads((demo.out / "samples.json").read_text())["settings"]
    pipeline = StableDiffusionPipeline.from_pretrained(TINY_SD, torch_dtype=torch.float32, safety_checker=None)
    pipeline.load_lora_weights(demo.out / "adapter")
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        settings["prompt"], num_inference_steps=5, guidance_scale=settings["guidance_scale"], height=64, width=64,
        generator=torch.Generator().manual_seed(3), output_type="np",
    ).images[0]  # fmt: skip
    family = load_family(TINY_SD)
    load_adapter(family, demo.out / "adapter")
    ours = family.sample(
        [settings["prompt"]], seeds=[3], steps=5, guidance_scale=settings["guidance_scale"], height_px=64, width_px=64
    )[0].numpy()
    assert np.abs(np.round(theirs * 255).astype(int) - ours.astype(int)).max() <= 1
    assert ours.std() > 5


def test_the_adapter_knows_its_sources(demo):
    from safetensors import safe_open

    [weights] = (demo.out / "adapter").glob("*.safetensors")
    with safe_open(weights, framework="np") as file:
        metadata = file.metadata()
    assert metadata["licet.manifest"] == read_manifest(demo.out / "manifest.json").identity
    assert json.loads(metadata["licet.licences"]) == {"CC0-1.0": 6}
    card = (demo.out / "adapter" / "README.md").read_text()
    assert "Stefan van der Walt" in card
    assert "Rachel Michetti" not in card  # her photos were in the manifest, but not in the selection


def test_the_picture_shows_something(demo):
    with Image.open(demo.out / "samples.png") as picture:
        assert min(picture.size) >= 256
        assert np.asarray(picture.convert("L")).std() > 10


def test_the_summary_has_every_figure(demo):
    assert {
        "rows_in", "kept", "rejected", "requests_for_denied_rows", "resume_identical", "similarity_before",
        "similarity_after", "class_similarity_before", "class_similarity_after", "seconds", "peak_rss_bytes",
    } <= set(demo.summary)  # fmt: skip
    assert demo.summary["peak_rss_bytes"] < 6 * 2**30
    for name in ("audit/index.html", "samples.png", "adapter", "tensorboard"):
        assert name in demo.printed


@pytest.mark.parametrize("name", ["look_inside.ipynb"])
def test_the_notebook_runs(demo, name, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("LICET_DEMO", str(demo.out))
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = io.StringIO()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            printed.write(str(output))
    assert "CC0-1.0" in printed.getvalue()


def test_with_the_policy_flipped_exactly_the_refused_rows_are_asked_for(tmp_path):
    from examples.demo.lists import files_to_serve, write_sources
    from examples.photos.serve import PhotoServer

    with PhotoServer(files_to_serve(), tmp_path / "requests.jsonl") as server:
        sources = write_sources(tmp_path / "sources", server.url)
        photos = next(s for s in sources if s.stem == "photos")

        def ingest(name: str, *policy: str) -> set[str]:
            before = len(server.requests())
            command = [
                sys.executable, "-m", "jobs.ingest_images", "--sources", f"[{photos}]", "--output", tmp_path / name,
                "--formats", "[tfrecord]", "--engine", "local", "--policy.purpose", "commercial-training",
                "--fetch.allow_networks", "[127.0.0.1/32]", *policy,
            ]  # fmt: skip
            subprocess.run([str(c) for c in command], cwd=ROOT, check=True, capture_output=True, timeout=300)
            return set(server.requests()[before:])

        strict = ingest("strict")
        flipped = ingest("flipped", "--policy.overrides", '{"licence-unknown": "allow"}')
    unknown = {"/photos/" + n for n in ("motorcycle.png", "moon.png", "page.png", "coins.png", "colon.png")}
    assert flipped - strict == unknown
    assert strict < flipped
