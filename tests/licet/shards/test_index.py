"""The index beside a shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from licet.records import Sample
from licet.shards import open_reader, open_writer
from licet.shards.index import ShardIndex, content_digest, crc32c, decode, encode, index_path, total_by


@pytest.fixture
def index(tmp_path: Path, samples: list[Sample]) -> ShardIndex:
    with open_writer("tfrecord", str(tmp_path / "a.tfrecord")) as writer:
        for sample in samples:
            writer.add(sample)
    return ShardIndex.open(index_path(str(tmp_path / "a.tfrecord")))


def test_the_canonical_encoding_comes_back(samples: list[Sample]) -> None:
    assert [decode(encode(sample)) for sample in samples] == samples
    assert len({content_digest(sample) for sample in samples}) == len(samples)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_crc32c_is_that_of_rfc_3720(kind: type) -> None:
    """Appendix B.4 of the RFC."""
    assert crc32c(kind(bytes(32))) == 0x8A9136AA
    assert crc32c(kind(bytes([0xFF]) * 32)) == 0x62A8AB43
    assert crc32c(kind(bytes(range(32)))) == 0x46DD794E
    assert crc32c(kind(b"")) == 0


def test_an_index_that_is_written_again_is_the_same_file(index: ShardIndex, tmp_path: Path) -> None:
    index.write(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "a.tfrecord.index.arrow").read_bytes()


def test_a_revised_index_changes_named_rows_only_and_the_shard_is_still_read(
    index: ShardIndex, tmp_path: Path, samples: list[Sample]
) -> None:
    changes = {samples[3].key: {"live": False}, samples[5].key: {"licence": "CC0-1.0", "creator": "A; B"}, "x": {}}
    revised = index.revised(changes)
    assert revised.live_positions() == [i for i in range(12) if i != 3]
    assert index.live_positions() == list(range(12))
    rows, old = revised.table.to_pylist(), index.table.to_pylist()
    assert rows[5] == {**old[5], "licence": "CC0-1.0", "creator": "A; B"}
    assert rows[3] == {**old[3], "live": False}
    assert [row for i, row in enumerate(rows) if i not in (3, 5)] == [
        row for i, row in enumerate(old) if i not in (3, 5)
    ]
    revised.write(str(tmp_path / "b.index.arrow"))
    reader = open_reader("tfrecord", str(tmp_path / "a.tfrecord"), ShardIndex.open(str(tmp_path / "b.index.arrow")))
    assert [reader[i] for i in range(12)] == samples
    with pytest.raises(KeyError):
        index.revised({samples[0].key: {"no such column": 1}})


def test_totals_count_live_rows_only(index: ShardIndex, samples: list[Sample]) -> None:
    revised = index.revised({samples[0].key: {"live": False}})
    assert total_by([index, revised], "source_id") == {"archive": 11, "photos": 12}
