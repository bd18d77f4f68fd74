"""Selections: which rows, fixed once, and for one manifest only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from licet.errors import ManifestDamagedError, MismatchError, UsageError
from licet.manifest import Manifest, ShardEntry, write_manifest
from licet.policy import Purpose
from licet.records import Sample
from licet.selection import Where, read_selection, select


@pytest.fixture
def manifest(tmp_path: Path, samples: list[Sample], entry_of: Callable[..., ShardEntry]) -> Manifest:
    entries = [
        entry_of(tmp_path, "u0", samples[:7]),
        entry_of(tmp_path, "u1", []),
        entry_of(tmp_path, "u2", samples[7:]),
    ]
    return write_manifest(tmp_path / "manifest.json", entries, Purpose.RESEARCH, "policy")


@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(sources=("photos",)),
        Where(licences=("CC0-1.0", "CC-BY-4.0")),
        Where(languages=("de", "und")),
        Where(sources=("archive",), licences=("CC-BY-4.0",), languages=("en", "ar", "de")),
    ],
)
def test_a_selection_holds_the_rows_that_match_every_list(
    manifest: Manifest, samples: list[Sample], where: Where
) -> None:
    selection = select(manifest, where)
    chosen = [
        i
        for i, sample in enumerate(samples)
        if (not where.sources or sample.source_id in where.sources)
        and (not where.licences or sample.licence in where.licences)
        and (not where.languages or sample.language in where.languages)
    ]
    assert [*selection.positions(0), *(7 + selection.positions(2))] == chosen
    assert list(selection.positions(1)) == []
    assert len(selection) == sum(selection.counts) == len(chosen) > 0


def test_rows_that_are_not_live_are_never_chosen(tmp_path: Path, manifest: Manifest, samples: list[Sample]) -> None:
    index = manifest.index(next(manifest.entries()), "tfrecord").revised({samples[2].key: {"live": False}})
    assert Where().matches(index).tolist() == [i != 2 for i in range(7)]
    assert Where(languages=("zh",)).matches(index).tolist() == [False] * 7


def test_a_selection_comes_back_and_its_hash_is_that_of_its_rows(tmp_path: Path, manifest: Manifest) -> None:
    selection = select(manifest, Where(sources=("photos",)))
    selection.write(tmp_path / "photos.selection")
    assert read_selection(tmp_path / "photos.selection", manifest) == selection
    assert select(manifest, Where(sources=("photos", "nowhere"))).hash == selection.hash
    assert select(manifest, Where(sources=("archive",))).hash != selection.hash


def test_nothing_chosen_is_an_error_that_says_what_there_is(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=r"matches \{'sources': \['none'\]\}: it holds .*'archive', 'photos'"):
        select(manifest, Where(sources=("none",)))


def test_a_selection_of_another_manifest_is_refused_with_both(tmp_path: Path, manifest: Manifest) -> None:
    select(manifest, Where()).write(tmp_path / "all.selection")
    other = write_manifest(tmp_path / "other.json", list(manifest.entries())[:1], Purpose.RESEARCH, "policy")
    with pytest.raises(MismatchError, match=rf"{manifest.identity[:12]}, not of .*other\.json \({other.identity[:12]}"):
        read_selection(tmp_path / "all.selection", other)


def test_a_missing_or_foreign_or_altered_file_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "a.selection"
    with pytest.raises(UsageError, match="no selection at"):
        read_selection(path, manifest)
    path.write_bytes(b"not Parquet")
    with pytest.raises(ManifestDamagedError, match="is not a selection"):
        read_selection(path, manifest)
    selection = select(manifest, Where(sources=("photos",)))
    selection.write(path)
    table = pq.read_table(path)
    counts = [count + 1 for count in table.column("count").to_pylist()]
    pq.write_table(table.set_column(0, "count", [counts]), path)
    with pytest.raises(ManifestDamagedError, match="was altered: its hash does not match"):
        read_selection(path, manifest)
