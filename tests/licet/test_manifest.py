"""Manifests: what is read is what was written, altered files are refused, the identity is that of the data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from licet.errors import ManifestDamagedError, MismatchError, PolicyRefusedError, UsageError
from licet.manifest import Manifest, ShardEntry, read_manifest, verify_manifest, write_manifest
from licet.policy import Purpose
from licet.records import Sample
from licet.shards import FORMATS, open_reader

RESEARCH = Purpose.RESEARCH


@pytest.fixture
def entries(tmp_path: Path, samples: list[Sample], entry_of: Callable[..., ShardEntry]) -> list[ShardEntry]:
    return [entry_of(tmp_path, "u0", samples[:7], FORMATS), entry_of(tmp_path, "u1", samples[7:], FORMATS)]


@pytest.fixture
def manifest(tmp_path: Path, entries: list[ShardEntry]) -> Manifest:
    return write_manifest(tmp_path / "manifest.json", entries, RESEARCH, "policy", envelope={"catalog": 3})


def identity(folder: Path, entries: Sequence[ShardEntry], purpose: Purpose = RESEARCH, policy: str = "policy") -> str:
    return write_manifest(folder / "other.json", entries, purpose, policy).identity


def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest, entries: list[ShardEntry]) -> None:
    again = read_manifest(manifest.path)
    assert again == manifest
    assert list(again.entries()) == entries
    assert again.formats == FORMATS
    assert again.totals["rows"] == again.totals["live_rows"] == 12
    assert again.totals["shards"] == 2
    assert again.totals["sources"] == {"archive": 6, "photos": 6}
    assert sum(again.totals["licences"].values()) == sum(again.totals["languages"].values()) == 12
    assert again.totals["n_bytes"] == {f: sum(e.files[f].n_bytes for e in entries) for f in FORMATS}
    assert (again.envelope, again.parent, again.revoked) == ({"catalog": 3}, None, ())
    verify_manifest(again)


def test_every_sample_is_read_through_the_manifest(manifest: Manifest, samples: list[Sample]) -> None:
    for format in FORMATS:
        found = []
        for entry in manifest.entries():
            file = entry.files[format]
            reader = open_reader(format, manifest.resolve(file.path), manifest.index(entry, format), file.sha256)
            found += [reader[i] for i in range(len(reader))]
            reader.close()
        assert found == samples


def test_a_manifest_of_many_pages_keeps_the_order(tmp_path: Path, entries: list[ShardEntry]) -> None:
    many = [replace(entries[0], unit_id=f"u{number}") for number in range(10_001)]
    manifest = write_manifest(tmp_path / "many.json", many, RESEARCH, "policy")
    assert [page["shards"] for page in manifest.pages] == [10_000, 1]
    assert [entry.unit_id for entry in manifest.entries()] == [entry.unit_id for entry in many]


def test_a_manifest_without_shards_is_one(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "none.json", [], RESEARCH, "policy")
    assert (list(manifest.entries()), manifest.totals["rows"], manifest.formats) == ([], 0, ())
    verify_manifest(manifest)


def test_the_identity_does_not_depend_on_paths_formats_envelope_or_folder(
    tmp_path: Path,
    entries: list[ShardEntry],
    manifest: Manifest,
    samples: list[Sample],
    entry_of: Callable[..., ShardEntry],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    others = [entry_of(elsewhere, "u0", samples[:7], ["parquet"]), entry_of(elsewhere, "u1", samples[7:], ["parquet"])]
    assert identity(elsewhere, others) == manifest.identity
    with_envelope = write_manifest(tmp_path / "e.json", entries, RESEARCH, "policy", envelope={"at": "2026-11-21"})
    assert with_envelope.identity == manifest.identity


def test_the_identity_depends_on_content_order_purpose_and_policy(
    tmp_path: Path, entries: list[ShardEntry], manifest: Manifest
) -> None:
    others = [
        identity(tmp_path, entries[::-1]),
        identity(tmp_path, entries[:1]),
        identity(tmp_path, [replace(entries[0], content="0" * 64), entries[1]]),
        identity(tmp_path, [replace(entries[0], live_rows=6), entries[1]]),
        identity(tmp_path, entries, Purpose.REDISTRIBUTION),
        identity(tmp_path, entries, policy="another"),
    ]
    assert len({manifest.identity, *others}) == 7


def test_a_successor_names_its_parent_and_what_was_revoked(
    tmp_path: Path, manifest: Manifest, entries: list[ShardEntry]
) -> None:
    after = write_manifest(tmp_path / "b.json", entries[:1], RESEARCH, "policy", parent=manifest, revoked=["k2", "k1"])
    assert (read_manifest(after.path).parent, after.revoked) == (manifest.identity, ("k1", "k2"))


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no manifest at .*none\.json: make one with `licet publish`"):
        read_manifest(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '"x"', '{"licet_manifest": 1}', "\ud800"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ManifestDamagedError, match=r"manifest\.json is not a manifest"):
        read_manifest(path)


def test_a_manifest_of_a_later_schema_asks_for_an_upgrade(manifest: Manifest) -> None:
    manifest.path.write_text(manifest.path.read_text().replace('"licet_manifest": 1', '"licet_manifest": 2'))
    with pytest.raises(MismatchError, match=r"has manifest schema 2; this licet reads 1: upgrade it"):
        read_manifest(manifest.path)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"purpose": "research"', '"purpose": "redistribution"'), ('"live_rows": 12', '"live_rows": 11'), ("policy", "p")],
)
def test_an_altered_root_is_refused(manifest: Manifest, old: str, new: str) -> None:
    text = manifest.path.read_text()
    assert old in text
    manifest.path.write_text(text.replace(old, new, 1))
    with pytest.raises(ManifestDamagedError, match=r"manifest\.json"):
        read_manifest(manifest.path)


def test_a_root_that_was_only_laid_out_anew_is_accepted(manifest: Manifest) -> None:
    manifest.path.write_text(json.dumps(json.loads(manifest.path.read_text())))
    assert read_manifest(manifest.path) == manifest


def flip(path: str | Path, place: int = 50) -> None:
    data = bytearray(Path(path).read_bytes())
    data[place] ^= 1
    Path(path).write_bytes(data)


def test_an_altered_or_missing_page_is_refused_by_name(manifest: Manifest) -> None:
    page = manifest.folder / manifest.pages[0]["path"]
    flip(page)
    with pytest.raises(ManifestDamagedError, match=rf"page {page} was altered"):
        list(manifest.entries())
    page.unlink()
    with pytest.raises(ManifestDamagedError, match=rf"page {page} cannot be read: No such file"):
        list(manifest.entries())


def test_an_altered_or_missing_index_is_refused_by_name(manifest: Manifest) -> None:
    entry = next(manifest.entries())
    path = manifest.resolve(entry.files["lmdb"].index_path)
    flip(path)
    with pytest.raises(ManifestDamagedError, match=rf"index {path} was altered"):
        manifest.index(entry, "lmdb")
    os.unlink(path)
    with pytest.raises(ManifestDamagedError, match=rf"index {path} is missing"):
        manifest.index(entry, "lmdb")


@pytest.mark.parametrize("format", FORMATS)
def test_verification_finds_an_altered_shard(manifest: Manifest, format: str) -> None:
    entry = list(manifest.entries())[1]
    path = manifest.resolve(entry.files[format].path)  # type: ignore[index]
    flip(path)
    with pytest.raises(ManifestDamagedError, match=rf"shard {path} is missing or altered"):
        verify_manifest(manifest)


def test_verification_finds_an_entry_that_is_not_its_index(tmp_path: Path, entries: list[ShardEntry]) -> None:
    wrong = [replace(entries[0], content=entries[1].content), entries[1]]
    manifest = write_manifest(tmp_path / "wrong.json", wrong, RESEARCH, "policy")
    with pytest.raises(ManifestDamagedError, match="are not those of unit u0"):
        verify_manifest(manifest)


def test_another_purpose_is_refused_and_told_how_to_publish(manifest: Manifest) -> None:
    manifest.require_purpose(RESEARCH)
    with pytest.raises(
        PolicyRefusedError, match="published for research, not for commercial-training: publish"
    ) as caught:
        manifest.require_purpose(Purpose.COMMERCIAL_TRAINING)
    assert caught.value.exit_code == 3


KILLED_BETWEEN_PAGE_AND_ROOT = """
import itertools, os, signal, sys
from licet.manifest import read_manifest, write_manifest

def entries(manifest):
    entry = next(manifest.entries())
    yield from itertools.repeat(entry, 10_000)      # a full page: it is written before the next entry is asked for
    if not os.listdir(sys.argv[2]):
        sys.exit("the page was not written")
    os.kill(os.getpid(), signal.SIGKILL)

manifest = read_manifest(sys.argv[1])
write_manifest(manifest.path, entries(manifest), manifest.purpose, "a later policy")
"""


def test_a_writer_killed_after_its_page_and_before_its_root_leaves_the_old_manifest(
    manifest: Manifest, entries: list[ShardEntry]
) -> None:
    old = manifest.path.read_bytes()
    pages = manifest.path.with_suffix(".pages")
    before = set(os.listdir(pages))
    command = [sys.executable, "-c", KILLED_BETWEEN_PAGE_AND_ROOT, str(manifest.path), str(pages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(set(os.listdir(pages)) - before) == 1
    assert manifest.path.read_bytes() == old
    assert list(read_manifest(manifest.path).entries()) == entries
    verify_manifest(manifest)
    after = write_manifest(manifest.path, entries[:1], RESEARCH, "a later policy")
    assert list(read_manifest(manifest.path).entries()) == list(after.entries()) == entries[:1]


def test_a_writer_that_fails_leaves_no_partial_file(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_manifest(manifest.path, [], RESEARCH, "policy", envelope={"at": object()})
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_manifest(tmp_path / "taken.json", [], RESEARCH, "policy")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]
    assert read_manifest(manifest.path) == manifest
