import dataclasses
import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from licet.errors import ShardDamagedError, UsageError
from licet.selection import Where, select
from lightning_modules.data.collate import collate
from lightning_modules.data.stream import (
    EpochBatches,
    Failure,
    Half,
    PairStream,
    Part,
    PositionBatches,
    Rows,
    View,
    look,
)

TOKENS = torch.arange(5)


def half(manifest, source, format=None):
    return Half(Rows([Part(manifest, select(manifest, Where(sources=(source,))))], format), TOKENS)


def stream_of(manifest, format=None, seed=3):
    view = View(size_px=8, crop="random", crop_scale=(0.5, 1.0), flip_probability=0.5)
    return PairStream(half(manifest, "cat", format), half(manifest, "person"), seed, view)


@pytest.fixture
def own_dataset(make, tmp_path):
    return make.dataset(tmp_path / "own", [make.samples("cat", 4), make.samples("person", 3)])


def test_each_epoch_shows_every_selected_row_once(dataset):
    stream = stream_of(dataset)
    for epoch in range(3):
        assert sorted(stream[epoch * 7 + i].instance.key for i in range(7)) == [f"cat-{i}" for i in range(7)]
        assert sorted(stream[epoch * 5 + i].prior.key for i in range(5)) == [f"person-{i}" for i in range(5)]


def test_a_sample_is_seen_differently_each_time(dataset):
    stream = stream_of(dataset)
    first = [stream[i].instance for i in range(21)]
    views = Counter((image.key, image.pixels.tobytes()) for image in first)
    assert max(views.values()) == 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("format", ["tfrecord", "lmdb"])
def test_from_any_position_the_stream_goes_on_as_if_never_interrupted(dataset, workers, format):
    def batches(start, count):
        sampler = PositionBatches(2, lambda: start)
        loader = DataLoader(stream_of(dataset, format), batch_sampler=sampler, collate_fn=collate, num_workers=workers)
        return [batch for batch, _ in zip(loader, range(count), strict=False)]

    whole = batches(0, 9)
    for skipped in (1, 4, 8):
        for expected, found in zip(whole[skipped:], batches(2 * skipped, 9 - skipped), strict=True):
            assert expected["keys"] == found["keys"]
            assert torch.equal(expected["pixels"], found["pixels"])
            assert torch.equal(expected["positions"], found["positions"])


def test_formats_give_the_same_stream(dataset):
    for position in range(5):
        one, other = (stream_of(dataset, format)[position].instance for format in ("tfrecord", "lmdb"))
        assert one.key == other.key
        assert np.array_equal(one.pixels, other.pixels)


def test_a_batch_has_instances_first_and_says_which_are_class_images(dataset):
    batch = collate([stream_of(dataset)[i] for i in (5, 6)])
    assert batch["pixels"].shape == (4, 3, 8, 8)
    assert batch["pixels"].dtype == torch.float32
    assert -1 <= batch["pixels"].min() < 0 < batch["pixels"].max() <= 1
    assert batch["is_prior"].tolist() == [False, False, True, True]
    assert batch["positions"].tolist() == [5, 6, 5, 6]
    assert [key.split("-")[0] for key in batch["keys"]] == ["cat", "cat", "person", "person"]
    assert batch["tokens"].shape == (4, 5)
    assert batch["tokens"].dtype == torch.int64


def test_a_stream_survives_a_trip_to_a_spawned_process(dataset):
    stream = stream_of(dataset)
    before = stream[0]
    after = pickle.loads(pickle.dumps(stream))[0]
    assert np.array_equal(before.instance.pixels, after.instance.pixels)


def test_ranks_share_positions_without_gap_or_overlap():
    def taken(rank):
        sampler = EpochBatches(2, lambda: 12, positions_per_epoch=24, rank=rank, world_size=3)
        assert len(sampler) == 4
        return list(sampler)

    assert [taken(rank) for rank in range(3)] == [[[12, 13], [18, 19]], [[14, 15], [20, 21]], [[16, 17], [22, 23]]]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("format", ["tfrecord", "lmdb"])
def test_a_flipped_byte_comes_out_of_a_worker_as_what_it_is(make, tmp_path, workers, format):
    manifest = make.dataset(tmp_path / "own", [make.samples("cat", 4), make.samples("person", 3)], (format,))
    entry = next(manifest.entries())
    path = Path(manifest.resolve(entry.files[format].path))
    data = bytearray(path.read_bytes())
    data[data.index(b"PNG") + 60] ^= 1
    path.write_bytes(data)
    sampler = PositionBatches(4, lambda: 0)
    loader = DataLoader(stream_of(manifest), batch_sampler=sampler, collate_fn=collate, num_workers=workers)
    failure = next(iter(loader))
    assert isinstance(failure, Failure)
    error = failure.error()
    assert type(error) is ShardDamagedError
    assert str(path) in str(error)
    assert error.shard == str(path)


def test_a_crop_lies_where_its_draws_say():
    image = PIL.Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10).repeat(3).reshape(6, 10, 3))
    whole = look(image, View(size_px=6), (0, 0, 0, 0.5))
    assert np.array_equal(whole, np.asarray(image)[:, 2:8])
    corner = look(image, View(6, "random", (1.0, 1.0)), (0.5, 0.0, 0.0, 0.5))
    assert np.array_equal(corner, np.asarray(image)[:, :6])
    mirrored = look(image, View(6, flip_probability=0.5), (0, 0, 0, 0.4))
    assert np.array_equal(mirrored, whole[:, ::-1])


def test_impossible_views_and_absent_formats_are_refused(own_dataset):
    with pytest.raises(UsageError, match="crop_scale"):
        View(8, "random", (0.5, 1.5))
    with pytest.raises(UsageError, match="holds no parquet shards: choose from tfrecord"):
        half(own_dataset, "cat", "parquet")


def test_a_payload_that_is_no_image_is_damage(make, tmp_path):
    text = dataclasses.replace(make.samples("cat", 1)[0], payload=b"no image")
    manifest = make.dataset(tmp_path / "own", [[text], make.samples("person", 1)])
    failure = stream_of(manifest)[0]
    assert isinstance(failure, Failure)
    assert "its payload is no image" in str(failure.error())


def test_few_shards_are_open_at_once(make, tmp_path, monkeypatch):
    import lightning_modules.data.stream as module

    monkeypatch.setattr(module, "OPEN_SHARDS", 2)
    manifest = make.dataset(tmp_path / "own", [[sample] for sample in make.samples("cat", 6)])
    rows = half(manifest, "cat").rows
    assert [rows[i].key for i in range(6)] == [f"cat-{i}" for i in range(6)]
    assert len(rows._readers._open) == 2
    assert io.BytesIO(rows[0].payload).read(4) == b"\x89PNG"
