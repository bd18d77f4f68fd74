import io
import json

import numpy as np
import PIL.Image
import pytest

from licet.errors import PolicyRefusedError
from licet.manifest import read_manifest, verify_manifest
from licet.policy import Outcome, Purpose
from licet.shards import open_reader
from lightning_modules.callbacks.prior_images import Recipe, generate, licence_of
from lightning_modules.diffusion.families.sd15 import load_family, weights_hash

PURPOSE = Purpose.COMMERCIAL_TRAINING


@pytest.fixture
def model(base):
    return load_family(base)


@pytest.fixture
def recipe(base):
    return Recipe(
        model="random_sd",
        model_hash=weights_hash(base),
        prompt="a photo of a cat",
        negative_prompt="",
        seed=100,
        sampler="ddim",
        sampling_steps=2,
        guidance_scale=3.0,
        size_px=16,
        images_per_shard=2,
    )


def samples_of(manifest):
    readers = [
        open_reader("tfrecord", manifest.resolve(entry.files["tfrecord"].path), manifest.index(entry, "tfrecord"))
        for entry in manifest.entries()
    ]
    return [reader[i] for reader in readers for i in range(len(reader))]


def test_class_images_are_the_base_models_with_what_made_them_on_record(model, recipe, tmp_path):
    manifest = generate(model, recipe, 3, tmp_path, PURPOSE)
    verify_manifest(manifest)
    samples = samples_of(manifest)
    assert len(samples) == manifest.totals["live_rows"] == 4  # whole shards
    for number, sample in enumerate(samples):
        expected = model.sample([recipe.prompt], seeds=[100 + number], steps=2, guidance_scale=3.0)[0].numpy()
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(sample.payload))), expected)
        made = json.loads(sample.rights)["generated"]
        assert made["seed"] == 100 + number
        assert (made["model_hash"], made["prompt"], made["sampler"]) == (recipe.model_hash, recipe.prompt, "ddim")
        assert sample.source_url == f"generated:{recipe.fingerprint}/{number}"
        assert (sample.licence, sample.creator) == ("CC0-1.0", "random_sd")
        assert "a photo of a cat" in sample.attribution
    assert manifest.envelope["generated"]["model_hash"] == recipe.model_hash


def test_a_killed_generation_goes_on_with_the_first_missing_shard(model, recipe, tmp_path, monkeypatch):
    whole = generate(model, recipe, 6, tmp_path / "whole", PURPOSE)
    drawn = []
    sample = model.sample

    def counted(*args, **kwargs):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(kwargs["seeds"])
        return sample(*args, **kwargs)

    monkeypatch.setattr(model, "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        generate(model, recipe, 6, tmp_path / "killed", PURPOSE)
    assert not (tmp_path / "killed" / "manifest.json").exists()
    drawn[:] = [None]  # one more shard may be drawn, no more
    resumed = generate(model, recipe, 6, tmp_path / "killed", PURPOSE)
    assert drawn == [None, [104, 105]]
    assert resumed.identity == whole.identity
    drawn[:] = [None, None]  # nothing may be drawn
    assert generate(model, recipe, 6, tmp_path / "killed", PURPOSE).identity == whole.identity


def test_a_damaged_shard_is_made_again(model, recipe, tmp_path):
    first = generate(model, recipe, 4, tmp_path, PURPOSE)
    path = next((tmp_path / "shards").glob("*.tfrecord"))
    path.write_bytes(path.read_bytes()[:-1])
    again = generate(model, recipe, 4, tmp_path, PURPOSE)
    assert again.identity == first.identity
    verify_manifest(again)


def test_each_part_of_the_recipe_changes_the_fingerprint(recipe):
    import dataclasses

    other = {"model_hash": "x", "prompt": "a dog", "negative_prompt": "x", "seed": 1, "sampler": "pndm"}
    other |= {"sampling_steps": 3, "guidance_scale": 1.0, "size_px": 8}
    changed = {dataclasses.replace(recipe, **{name: value}).fingerprint for name, value in other.items()}
    assert len(changed | {recipe.fingerprint}) == len(other) + 1


def test_images_of_unknown_licence_are_refused_unless_a_person_decides(make, recipe, tmp_path):
    model = load_family(make.base(tmp_path / "unlicensed", licence=""))
    assert licence_of(model) == "NOASSERTION"
    with pytest.raises(PolicyRefusedError, match=r"nobody has said .* \{licence-unknown: allow\}"):
        generate(model, recipe, 2, tmp_path / "out", PURPOSE)
    manifest = generate(model, recipe, 2, tmp_path / "out", PURPOSE, {"licence-unknown": Outcome.ALLOW})
    assert read_manifest(manifest.path).totals["licences"] == {"NOASSERTION": 2}


@pytest.mark.parametrize(
    ("stated", "licence"), [("apache-2.0", "Apache-2.0"), ("creativeml-openrail-m", "LicenseRef-creativeml-openrail-m")]
)
def test_the_licence_is_the_one_of_the_models_card(make, tmp_path, stated, licence):
    assert licence_of(load_family(make.base(tmp_path / "model", licence=stated))) == licence
