"""The training command as a person runs it, on a tiny model, with real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from licet.cli import run_command
from licet.errors import DamagedError, MismatchError, PolicyRefusedError, ShardDamagedError, UsageError
from licet.manifest import read_manifest
from lightning_modules.callbacks.checkpoint import FOLDER, newest_checkpoint, step_of
from lightning_modules.diffusion.dreambooth import DreamBooth
from lightning_modules.train import command

ROOT = Path(__file__).resolve().parents[2]
LOSSES = ("train/loss", "train/loss_instance", "train/loss_prior", "train/gradient_norm", "train/learning_rate")


@pytest.fixture
def start():
    """Starts the command in a process of its own, which does not outlive the test."""
    started = []

    def run(arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command_line = [sys.executable, "-m", "lightning_modules.train", *arguments]
        started.append(subprocess.Popen(command_line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, process):
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended by itself: {process.stderr.read()}")
        time.sleep(0.02)


def steps_on_disk(run):
    return [step_of(path) for path in (run / FOLDER).glob("step=*.ckpt")]


def with_run(arguments, run):
    return [f"--run={run}" if a.startswith("--run=") else a for a in arguments]


def all_scalars(run, scalars):
    return {tag: scalars(run, tag) for tag in LOSSES}


def test_a_killed_run_goes_on_bit_for_bit(arguments, tmp_path, scalars, start):
    """kill -9 after a checkpoint, and SIGTERM between two: both runs end with the losses of one never interrupted."""
    flags = {"trainer__max_steps": 40, "checkpoint__every_n_steps": 5, "prior__folder": tmp_path / "prior"}
    flags |= {"model__lora__dropout": 0.2, "model__lr_schedule": "cosine", "trainer__gradient_clip_val": 0.5}
    fit = arguments(**flags, samples__prompts="[]")
    assert command(with_run(fit, tmp_path / "whole")) == 0
    expected = all_scalars(tmp_path / "whole", scalars)
    assert list(expected["train/loss"]) == list(range(1, 41))

    run = tmp_path / "interrupted"
    process = start(with_run(fit, run))
    wait_for(lambda: steps_on_disk(run), process)
    process.kill()
    process.wait()
    killed_at = max(steps_on_disk(run))
    assert killed_at < 40

    process = start(with_run(fit, run))
    wait_for(lambda: max(steps_on_disk(run)) > killed_at, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    stopped_at = max(steps_on_disk(run))
    if stopped_at < 40:  # on a fast machine the run may end before the signal arrives
        assert process.returncode == 1
        assert "stopped by SIGTERM; run the same command again to go on." in said

    assert command(with_run(fit, run)) == 0
    assert all_scalars(run, scalars) == expected
    whole, resumed = (
        torch.load(newest_checkpoint(r), weights_only=True)["state_dict"] for r in (tmp_path / "whole", run)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("flags", [{"data__positions_per_epoch": 6}, {"trainer__accumulate_grad_batches": 2}])
def test_epochs_and_accumulation_resume_bit_for_bit(arguments, tmp_path, scalars, flags):
    fit = arguments(**flags, samples__prompts="[]", checkpoint__every_n_steps=1, checkpoint__keep_last=9)
    assert command(with_run(fit, tmp_path / "whole")) == 0
    expected = scalars(tmp_path / "whole")
    assert list(expected) == list(range(1, 9))
    for step in (2, 3, 7):
        run = tmp_path / f"from-{step}"
        checkpoint = tmp_path / "whole" / FOLDER / f"step={step:08d}.ckpt"
        assert command([*with_run(fit, run), f"--resume={checkpoint}"]) == 0
        assert scalars(run) == {s: loss for s, loss in expected.items() if s > step}


def test_training_changes_adapter_weights_alone_and_checkpoints_hold_nothing_else(arguments, tmp_path, base, scalars):
    assert command(arguments()) == 0
    checkpoint = torch.load(newest_checkpoint(tmp_path / "run"), weights_only=True)
    fresh = DreamBooth(base, lora=DreamBooth(base).shape)
    names = set(checkpoint["state_dict"])
    assert names
    assert all("lora_" in name for name in names)
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(names)
    assert checkpoint["PairData"]["positions"] == 16
    n_bytes = sum(p.stat().st_size for p in (tmp_path / "run" / FOLDER).iterdir())
    assert n_bytes < sum(p.numel() * 4 for p in fresh.family.parameters())
    tags = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Tags()["scalars"]
    assert set(LOSSES) <= set(tags)
    losses = scalars(tmp_path / "run", "train/loss_instance")
    assert all(loss > 0 for loss in losses.values())


def test_base_weights_stay_bit_for_bit(base, dataset, tmp_path):
    import pytorch_lightning as pl

    from lightning_modules.data.datamodule import PairData

    module = DreamBooth(base, prior_loss_weight=0.0, learning_rate=0.1)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    data = PairData(str(dataset.path), "a photo of sks cat", base=str(base), size_px=16, num_workers=0)
    options = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_steps=3, default_root_dir=tmp_path, enable_model_summary=False, **options)
    trainer.fit(module, data)
    changed = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in module.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in changed)
    [optimizer] = trainer.optimizers
    assert {id(p) for p in optimizer.state} == {id(p) for p in module.parameters() if p.requires_grad}


@pytest.mark.parametrize("format", ["tfrecord", "lmdb"])
def test_a_flipped_byte_stops_training_before_a_step_uses_it(make, arguments, tmp_path, format):
    samples = [make.samples("cat", 5)[i : i + 1] for i in range(5)]
    manifest = make.dataset(tmp_path / "data", samples, formats=(format,))
    path = Path(manifest.resolve(list(manifest.entries())[4].files[format].path))
    data = bytearray(path.read_bytes())
    data[data.index(b"PNG") + 60] ^= 1
    path.write_bytes(data)
    flags = {"model__prior_loss_weight": 0, "data__batch_size": 1, "samples__prompts": "[]", "data__seed": 1}
    fit = arguments(manifest=manifest.path, checkpoint__every_n_steps=100, **flags)
    with pytest.raises(ShardDamagedError, match=str(path)):
        command(fit)
    [done] = steps_on_disk(tmp_path / "run") or [0]  # what was trained before is saved
    assert done < 5

    data[data.index(b"PNG") + 60] ^= 1
    path.write_bytes(data)
    assert command(fit) == 0


def test_a_checkpoint_of_other_data_or_settings_is_refused_with_the_difference(arguments, make, tmp_path):
    flags = {"samples__prompts": "[]", "trainer__max_steps": 2}
    assert command(arguments(**flags)) == 0
    other = make.dataset(tmp_path / "other", [make.samples("cat", 3)])
    longer = {**flags, "trainer__max_steps": 3}
    with pytest.raises(MismatchError, match=r"manifest: '.*' in the checkpoint, '.*' now"):
        command(arguments(manifest=other.path, **longer))
    for name, value, shown in (
        ("model__learning_rate", 0.5, "learning_rate: 0.01 in the checkpoint, 0.5 now"),
        ("model__lora__rank", 3, "lora_rank: 2 in the checkpoint, 3 now"),
        ("data__seed", 5, "seed: 0 in the checkpoint, 5 now"),
        ("data__batch_size", 3, "pairs_per_step: 2 in the checkpoint, 3 now"),
        ("data__instance_prompt", "a photo of zwx cat", "zwx"),
        ("data__sources", '["cat", "person"]', "selection: "),
        ("base", make.base(tmp_path / "other_base", seed=9), "base_weights: "),
        ("prior__seed", 50, "prior_manifests: "),
    ):
        with pytest.raises(MismatchError, match=shown):
            command(arguments(**{**longer, name: value}))
    assert command(arguments(**longer, checkpoint__every_n_steps=1, data__num_workers=0)) == 0
    assert max(steps_on_disk(tmp_path / "run")) == 3


def test_going_back_to_an_older_checkpoint_leaves_no_newer_one_to_go_on_from(arguments, tmp_path, scalars):
    flags = {"samples__prompts": "[]", "checkpoint__every_n_steps": 2, "checkpoint__keep_last": 9}
    assert command(arguments(**flags)) == 0
    older = tmp_path / "run" / FOLDER / "step=00000004.ckpt"
    assert command(arguments(**flags, trainer__max_steps=5, resume=older)) == 0
    assert sorted(steps_on_disk(tmp_path / "run")) == [2, 4, 5]
    assert (tmp_path / "run" / FOLDER / "step=00000008.ckpt.old").exists()
    assert list(scalars(tmp_path / "run")) == [1, 2, 3, 4, 5]  # TensorBoard forgets the other turn


def test_never_starts_anew_and_keeps_what_was_there(arguments, tmp_path):
    flags = {"samples__prompts": "[]", "trainer__max_steps": 2}
    assert command(arguments(**flags)) == 0
    first = newest_checkpoint(tmp_path / "run").read_bytes()
    assert command(arguments(**flags, model__learning_rate=0.02, resume="never")) == 0
    assert (tmp_path / "run" / f"{FOLDER}.1" / "step=00000002.ckpt").read_bytes() == first
    for path in (tmp_path / "run" / FOLDER).iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(DamagedError, match="--resume never"):
        command(arguments(**flags))


def test_a_manifest_of_another_purpose_is_refused(arguments, capsys):
    with pytest.raises(PolicyRefusedError, match="published for commercial-training, not for research"):
        command(arguments(data__purpose="research"))
    assert run_command(command, arguments(data__purpose="research")) == 3
    assert capsys.readouterr().err.startswith("licet: ")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data__batch_size": "many"}, "data.batch_size"),
        ({"model__lr_schedule": "square"}, "model.lr_schedule"),
        ({"trainer__max_stepz": 3}, "max_stepz"),
    ],
)
def test_wrong_flags_end_with_2_and_a_sentence(arguments, capsys, flags, said):
    with pytest.raises(SystemExit) as stop:
        command(arguments(**flags))
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data__sources": '["dog"]'}, "no row of .* matches"),
        ({"base": "nowhere"}, "there is no model at nowhere"),
        ({"resume": "nowhere.ckpt"}, "there is no such file"),
        ({"data__positions_per_epoch": 5}, "expected a multiple of 2"),
        ({"trainer__max_steps": -1}, "an endless epoch needs an end"),
        ({"prior__count": 0}, "prior preservation needs class images"),
        ({"data__class_prompt": ""}, "class images need a prompt"),
        ({"threads": 0}, "expected at least 1"),
        ({"trainer__accelerator": "cuda"}, "CUDA"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, flags, said):
    if "trainer__accelerator" in flags and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match=said):
        command(arguments(**flags))


def test_the_adapter_says_where_it_came_from_and_plain_diffusers_loads_it(arguments, tmp_path, dataset, base):
    assert command(arguments(samples__prompts="[]", prior__folder=tmp_path / "prior")) == 0
    adapter = tmp_path / "run" / "adapter"
    with safe_open(adapter / "pytorch_lora_weights.safetensors", "np") as file:
        header = file.metadata()
    assert header["licet.manifest"] == dataset.identity
    assert json.loads(header["licet.licences"]) == {"CC-BY-4.0": 7}
    assert "Photographer of cat" in header["licet.credits"]
    [prior] = (tmp_path / "prior").glob("*/manifest.json")
    assert header["licet.prior.0.manifest"] == read_manifest(prior).identity
    assert json.loads(header["licet.prior.0.licences"]) == {"CC0-1.0": 4}
    card, credits = (adapter / "README.md").read_text(), (adapter / "ATTRIBUTION.md").read_text()
    for text in (card, credits):
        assert "Photographer of cat" in text
        assert "Photographer of person" not in text  # in the manifest, not in the selection
    assert card.startswith("---\nbase_model:")
    assert "## Class images" in card

    def drawn(pipeline):
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        image = pipeline("a photo of sks cat", num_inference_steps=2, generator=generator, output_type="np").images
        return torch.from_numpy(image)

    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None, requires_safety_checker=False)
    before = drawn(pipeline)
    pipeline.load_lora_weights(adapter)
    assert (drawn(pipeline) - before).abs().max() > 1e-3


def test_an_adapter_lost_after_training_is_written_by_the_same_command(arguments, tmp_path):
    fit = arguments(samples__prompts="[]", trainer__max_steps=2)
    assert command(fit) == 0
    weights = tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors"
    expected = weights.read_bytes()
    weights.unlink()
    assert command(fit) == 0
    assert weights.read_bytes() == expected


def test_validation_is_repeatable_and_a_held_out_test_is_another(arguments, capsys):
    fit = arguments(samples__prompts="[]", trainer__max_steps=2)
    assert command(fit) == 0
    evaluate = [a for a in fit if not a.startswith("--trainer.max_steps")]

    def evaluated(name, *more):
        assert command([name, *evaluate[1:], *more]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "/loss" in line]

    validated = evaluated("validate")
    assert len(validated) == 1
    assert evaluated("validate") == validated
    assert evaluated("validate", "--resume=never") != validated
    assert evaluated("test", '--data.test_sources=["person"]')
    with pytest.raises(UsageError, match="test needs held-out rows"):
        command(["test", *evaluate[1:]])


def test_class_images_may_come_from_the_manifest(arguments, tmp_path, dataset):
    flags = {"data__prior_manifest": dataset.path, "data__prior_sources": '["person"]', "prior__count": 0}
    assert command(arguments(**flags, samples__prompts="[]", trainer__max_steps=2)) == 0
    assert not (tmp_path / "run" / "prior").exists()
    with safe_open(tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors", "np") as file:
        assert json.loads(file.metadata()["licet.prior.0.sources"]) == {"person": 5}
