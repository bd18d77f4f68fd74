import pickle

import pytest
import torch

from licet.errors import DamagedError, UsageError
from lightning_modules.callbacks.checkpoint import FOLDER, AtomicCheckpointIO, Checkpoints, newest_checkpoint, step_of


def save(run, step, **content):
    path = run / FOLDER / f"step={step:08d}.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": step, "weights": torch.randn(2000), **content}, path)
    return path


def test_the_newest_checkpoint_is_the_one_of_the_last_step(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 90)
    newest = save(tmp_path, 110)
    assert newest_checkpoint(tmp_path) == newest
    assert step_of(newest) == 110


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage, caplog):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    data = bytearray(newer.read_bytes())
    data[len(data) // 2] ^= 1
    newer.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    assert newest_checkpoint(tmp_path) == older
    assert str(newer) in caplog.text
    older.write_bytes(b"")
    with pytest.raises(DamagedError, match="--resume never"):
        newest_checkpoint(tmp_path)


def test_a_half_written_checkpoint_is_not_seen(tmp_path, monkeypatch):
    older = save(tmp_path, 1)

    def killed(checkpoint, file):
        file.write(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == older


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made by a pickle"), "w")

    path = tmp_path / "evil.ckpt"
    torch.save({"weights": torch.zeros(1), "evil": Evil()}, path)
    with pytest.raises(DamagedError, match="cannot be read"):
        AtomicCheckpointIO().load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DamagedError, match="cannot be read"):
        AtomicCheckpointIO().load_checkpoint(path)
    assert not (tmp_path / "made by a pickle").exists()


def test_absent_files_and_impossible_settings_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(UsageError, match="at least 1"):
        Checkpoints(every_n_steps=0)
