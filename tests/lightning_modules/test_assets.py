"""The shipped base model: what it is, what it was made from, and that its card says so."""

import json

import pytest
from diffusers import StableDiffusionPipeline

from licet.ledger import build_ledger
from licet.manifest import read_manifest
from lightning_modules.assets import TINY_SD

N_BYTES_AT_MOST = 16 * 2**20


@pytest.fixture(scope="module")
def card() -> str:
    return (TINY_SD / "README.md").read_text(encoding="utf-8")


def test_it_is_small_and_holds_no_pickle():
    files = [p for p in TINY_SD.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < N_BYTES_AT_MOST
    assert {p.suffix for p in files} <= {".safetensors", ".json", ".md", ".parquet", ".arrow"}


def test_plain_diffusers_opens_it_and_the_rare_token_is_one_token():
    pipeline = StableDiffusionPipeline.from_pretrained(TINY_SD, safety_checker=None)
    ids = pipeline.tokenizer("a photo of sks cat").input_ids
    words = [pipeline.tokenizer.decode([i]).strip() for i in ids[1:-1]]
    assert words == ["a", "photo", "of", "sks", "cat"]


def test_its_card_credits_every_photo_of_its_manifest(card):
    manifest = read_manifest(TINY_SD / "data" / "manifest.json")
    ledger = build_ledger(manifest)
    assert ledger.rows == 12
    assert set(ledger.licences) == {"CC-BY-2.0", "CC0-1.0", "LicenseRef-Public-Domain"}
    assert manifest.identity in card
    for credit in ledger.credits:
        assert credit.attribution in card
        assert credit.source in card


def test_its_training_record_names_the_script_and_the_manifest():
    record = json.loads((TINY_SD / "training.json").read_text())
    assert record["script"] == "examples/base/make_base.py"
    assert record["manifest"] == read_manifest(TINY_SD / "data" / "manifest.json").identity
    assert len(record["photos"]) == 12
    assert "chelsea" in record["photos"]
