"""Plain files: what lies in the folder, and that nobody's listing leads out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from licet.errors import ShardDamagedError
from licet.records import Sample
from licet.shards import open_reader, open_writer
from licet.shards.files import Writer, members
from licet.shards.index import IndexBuilder, ShardIndex, content_digest, crc32c, file_sha256, index_path


@pytest.fixture
def shard(tmp_path: Path, samples: list[Sample]) -> Path:
    path = tmp_path / "a.files"
    with open_writer("files", str(path)) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def test_the_folder_holds_each_payload_and_its_fields_and_nothing_else(shard: Path, samples: list[Sample]) -> None:
    folder = shard.parent / "a.files.d"
    names = {name for s in samples for name in (f"{s.key}.{s.payload_format}", f"{s.key}.json")}
    assert {path.name for path in folder.iterdir()} == names
    for sample in samples:
        assert (folder / f"{sample.key}.{sample.payload_format}").read_bytes() == sample.payload
        fields = json.loads((folder / f"{sample.key}.json").read_text("utf-8"))
        assert Sample(payload=sample.payload, **fields) == sample


def test_the_listing_names_every_file_with_its_hash(shard: Path, samples: list[Sample]) -> None:
    found = list(members(str(shard)))
    assert len(found) == 2 * len(samples)
    for member in found:
        path = shard.parent / member.name
        assert (path.stat().st_size, file_sha256(str(path))) == (member.n_bytes, member.sha256)


@pytest.mark.parametrize("damage", ["other", "longer", "absent", "link"])
def test_a_damaged_file_is_named_and_the_others_are_read(shard: Path, samples: list[Sample], damage: str) -> None:
    victim = shard.parent / "a.files.d" / f"{samples[1].key}.json"
    good = victim.read_bytes()
    victim.unlink()
    if damage == "link":
        (shard.parent / "outside").write_bytes(good)
        victim.symlink_to(shard.parent / "outside")
    elif damage != "absent":
        victim.write_bytes(good.replace(b'"de"', b'"nl"') if damage == "other" else good + b" ")
    reader = open_reader("files", str(shard))
    with pytest.raises(ShardDamagedError, match=rf"record 1 \(key {samples[1].key}\).*{victim.name}"):
        reader[1]
    assert reader[0] == samples[0]
    reader.close()


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../../secret", ""])
def test_a_listing_that_names_files_elsewhere_is_refused(tmp_path: Path, samples: list[Sample], key: str) -> None:
    """Listing and index agree, as an attacker's would."""
    (tmp_path / "secret.jpg").write_bytes(b"a secret")
    path = tmp_path / "a.files"
    line = {"key": key, "payload_format": "jpg", "payload_bytes": 8, "payload_sha256": "0" * 64}
    data = json.dumps(line | {"fields_bytes": 2, "fields_sha256": "0" * 64}).encode() + b"\n"
    Writer(str(path)).abandon()
    path.write_bytes(data)
    builder = IndexBuilder()
    builder.add(samples[0], 0, len(data), crc32c(data), content_digest(samples[0]))
    builder.build().write(index_path(str(path)))
    reader = open_reader("files", str(path), ShardIndex.open(index_path(str(path))))
    with pytest.raises(ShardDamagedError, match="names no file of a shard"):
        reader[0]
    with pytest.raises(ShardDamagedError, match="line 1"):
        list(members(str(path)))
    reader.close()


def test_a_folder_that_exists_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "a.files.d").mkdir()
    with pytest.raises(FileExistsError):
        open_writer("files", str(tmp_path / "a.files"))
    assert not (tmp_path / "a.files").exists()
