"""Shards read with libraries that are not ours: the same payload bytes in all of them."""

from __future__ import annotations

import json
import random
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pyarrow.parquet as pq
import pytest

from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards import EXTENSIONS, FORMATS, ShardFormat, open_writer

Shards = dict[ShardFormat, str]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    paths: Shards = {format: str(folder / f"a{EXTENSIONS[format]}") for format in FORMATS}
    for format, path in paths.items():
        with open_writer(format, path) as writer:
            for sample in samples:
                writer.add(sample)
    return paths


def test_the_tfrecord_package_reads_every_field(shards: Shards, samples: list[Sample]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing the package imports torch, which may warn
        from tfrecord.reader import tfrecord_loader

    rows = list(tfrecord_loader(shards["tfrecord"], None))
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples, strict=True):
        assert sorted(row) == sorted(SAMPLE_SCHEMA.names)
        for name, value in asdict(sample).items():
            if isinstance(value, int):
                assert np.asarray(row[name]).tolist() == [value]
            else:
                assert bytes(row[name]) == (value if isinstance(value, bytes) else value.encode())


def test_frames_carry_the_checksums_that_other_readers_verify(shards: Shards) -> None:
    """Against the checksum of another library (`crc32c`, which the `tfrecord` package uses)."""
    import crc32c

    def masked(data: bytes) -> int:
        crc = crc32c.crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    data = Path(shards["tfrecord"]).read_bytes()
    at = n_frames = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        assert int.from_bytes(data[at + 8 : at + 12], "little") == masked(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert int.from_bytes(data[at + 12 + length : at + 16 + length], "little") == masked(body)
        at += 16 + length
        n_frames += 1
    assert n_frames == 12


def test_features_stand_in_the_order_of_the_fields(shards: Shards) -> None:
    """A map has no order: without one of our own, another build of protobuf would write other bytes."""
    data = Path(shards["tfrecord"]).read_bytes()
    places = [data.index(b"\x0a" + bytes([len(name)]) + name.encode()) for name in SAMPLE_SCHEMA.names]
    assert places == sorted(places)


def test_webdataset_reads_payload_caption_and_fields(shards: Shards, samples: list[Sample]) -> None:
    import webdataset

    rows = list(webdataset.WebDataset(shards["webdataset"], shardshuffle=False))
    assert [row["__key__"] for row in rows] == [sample.key for sample in samples]
    for row, sample in zip(rows, samples, strict=True):
        assert row[sample.payload_format] == sample.payload
        fields = json.loads(row["json"])
        if sample.payload_format != "txt":
            fields["caption"] = row["txt"].decode()
        assert fields == {k: v for k, v in asdict(sample).items() if k != "payload"}


def test_webdataset_decodes_pictures(shards: Shards, samples: list[Sample]) -> None:
    import webdataset

    rows = list(webdataset.WebDataset(shards["webdataset"], shardshuffle=False).decode("pil"))
    assert rows[0]["jpg"].size == (samples[0].width, samples[0].height)
    assert rows[0]["txt"] == samples[0].caption
    assert rows[3]["txt"] == samples[3].payload.decode()


def test_tar_members_are_plain_files_in_order(shards: Shards, samples: list[Sample]) -> None:
    with tarfile.open(shards["webdataset"]) as tar:
        members = tar.getmembers()
    assert [m.name for m in members[:3]] == [f"{samples[0].key}.{e}" for e in ("jpg", "txt", "json")]
    assert {(m.isreg(), m.mtime, m.uid, m.gid, m.mode) for m in members} == {(True, 0, 0, 0, 0o444)}


def test_lmdb_and_msgpack_read_every_field(shards: Shards, samples: list[Sample]) -> None:
    with (
        lmdb.open(shards["lmdb"], subdir=False, readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        assert msgpack.unpackb(transaction.get(b"licet")) == {
            "version": 1,
            "rows": len(samples),
            "fields": SAMPLE_SCHEMA.names,
        }
        for number, sample in enumerate(samples):
            assert msgpack.unpackb(transaction.get(number.to_bytes(8, "big"))) == asdict(sample)
        assert transaction.stat()["entries"] == len(samples) + 1


def test_pyarrow_reads_every_field(shards: Shards, samples: list[Sample]) -> None:
    table = pq.read_table(shards["parquet"], page_checksum_verification=True)
    assert table.schema.equals(SAMPLE_SCHEMA)
    assert table.to_pylist() == [asdict(sample) for sample in samples]


def test_pyarrow_finds_a_damaged_page_by_the_pages_checksum(tmp_path: Path, sample_of: Callable[..., Sample]) -> None:
    path = tmp_path / "a.parquet"
    sample = sample_of(0, payload=random.Random(0).randbytes(30_000))
    with open_writer("parquet", str(path)) as writer:
        writer.add(sample)
    data = bytearray(path.read_bytes())
    data[data.index(sample.payload[10_000:10_100])] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_row_groups_stay_small_enough_for_random_access(tmp_path: Path, sample_of: Callable[..., Sample]) -> None:
    path = str(tmp_path / "a.parquet")
    with open_writer("parquet", path) as writer:
        for number in range(100):
            writer.add(sample_of(number, "txt"))
        for number in range(100, 106):
            writer.add(sample_of(number, payload=bytes([number]) * (3 << 20)))
    footer = pq.read_metadata(path)
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    assert max(group.num_rows for group in groups) <= 64
    assert max(group.total_byte_size for group in groups) < (8 << 20) + (3 << 20)
    assert sum(group.num_rows for group in groups) == 106


def test_datasets_reads_every_field(shards: Shards, samples: list[Sample], tmp_path: Path) -> None:
    import datasets

    rows = datasets.load_dataset("parquet", data_files=shards["parquet"], split="train", cache_dir=str(tmp_path))
    assert list(rows) == [asdict(sample) for sample in samples]
