"""A unit's shards: where they are cut, that all formats are cut alike, that the same samples give the same bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.catalog import CommitRow
from jobs.images.shards_out import ShardLimits, ShardsOut
from jobs.layout import SHARDS
from jobs.target import Target, opened
from licet import storage
from licet.errors import UsageError
from licet.records import Sample, row_id_of
from licet.shards import FORMATS, members, open_reader
from licet.shards.index import ShardIndex, encode, file_sha256


def sample(number: int, n_bytes: int = 1000) -> Sample:
    url = f"http://photos.example/{number}.jpg"
    return Sample(
        row_id_of("photos", url, 0), random.Random(number).randbytes(n_bytes), "jpg", f"photo {number}", 8, 8, 16, 16,
        "0" * 64, "0" * 16, "photos", url, "", ("CC0-1.0", "BSL-1.0")[number % 2], "", "", "", "en", "{}", "free",
    )  # fmt: skip


SAMPLES = [sample(number) for number in range(10)]


def write(target: Target, samples: Sequence[Sample], limits: ShardLimits = ShardLimits()) -> dict[str, Any]:  # noqa: B008
    with target.unit("u") as place, ShardsOut(place, "attempt", FORMATS, limits) as shards:
        for one in samples:
            shards.add(one)
        return shards.close()


def keys_by_shard(output: str, report: dict[str, Any], format: str) -> list[list[str]]:
    """Keys of each shard in a format, read from the shards themselves."""
    found = []
    for file in report["files"]:
        if file["format"] == format:
            with opened(output, file["index_path"], file["index_sha256"]) as local:
                index = ShardIndex.open(local)
            reader = open_reader(format, os.path.join(output, file["path"]), index, file["sha256"])  # type: ignore[arg-type]
            found.append([reader[position].key for position in range(len(reader))])
            reader.close()
    return found


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ShardLimits(), [10]),
        (ShardLimits(max_shard_rows=4), [4, 4, 2]),
        (ShardLimits(max_shard_rows=10), [10]),
        (ShardLimits(max_shard_bytes=3 * len(encode(SAMPLES[0]))), [3, 3, 3, 1]),
        (ShardLimits(max_shard_bytes=3 * len(encode(SAMPLES[0])) - 1), [2, 2, 2, 2, 2]),
        (ShardLimits(max_shard_rows=2, max_shard_bytes=1), [1] * 10),
    ],
)
def test_all_formats_are_cut_at_the_same_samples(tmp_path: Path, limits: ShardLimits, expected: list[int]) -> None:
    output = str(tmp_path)
    report = write(Target(output), SAMPLES, limits)
    by_format = [keys_by_shard(output, report, format) for format in FORMATS]
    assert [len(keys) for keys in by_format[0]] == expected
    assert all(keys == by_format[0] for keys in by_format)
    assert [key for keys in by_format[0] for key in keys] == [one.key for one in SAMPLES]
    shards = {(file["shard"], file["rows"], file["content"]) for file in report["files"]}
    assert sorted(number for number, _, _ in shards) == list(range(len(expected)))
    assert report["rows"] == sum(rows for _, rows, _ in shards) == 10
    assert report["licences"] == {"BSL-1.0": 5, "CC0-1.0": 5}
    CommitRow("unit", "u", 1, **report)


def test_a_cut_changes_a_shards_content_and_not_the_units(tmp_path: Path) -> None:
    whole = write(Target(str(tmp_path / "whole")), SAMPLES)
    cut = write(Target(str(tmp_path / "cut")), SAMPLES, ShardLimits(max_shard_rows=4))
    assert whole["content"] == cut["content"] == whole["files"][0]["content"]
    assert whole["content"] not in {file["content"] for file in cut["files"]}


def test_a_sample_larger_than_the_limit_is_a_shard_of_its_own(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, 50_000), sample(2)]
    report = write(Target(str(tmp_path)), samples, ShardLimits(max_shard_bytes=10_000))
    assert keys_by_shard(str(tmp_path), report, "webdataset") == [[one.key] for one in samples]


def test_the_same_samples_give_the_same_files_whoever_writes_them(tmp_path: Path) -> None:
    limits = ShardLimits(max_shard_rows=4)
    one, other = (write(Target(str(tmp_path / name)), SAMPLES, limits) for name in ("one", "other"))
    assert one == other

    def files(folder: Path) -> dict[str, str]:
        return {p.relative_to(folder).as_posix(): file_sha256(str(p)) for p in folder.rglob("*") if p.is_file()}

    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert len(files(tmp_path / "one")) == 3 * 2 * len(FORMATS) + 2 * len(SAMPLES)


def test_what_is_written_is_what_is_told(tmp_path: Path) -> None:
    report = write(Target(str(tmp_path)), SAMPLES, ShardLimits(max_shard_rows=4))
    for file in report["files"]:
        path = tmp_path / file["path"]
        assert path.parent == tmp_path / SHARDS / "u"
        assert path.name.startswith(f"attempt-{file['shard']:05d}.")
        assert (file_sha256(str(path)), file_sha256(str(tmp_path / file["index_path"]))) == (
            file["sha256"],
            file["index_sha256"],
        )
        beside = members(file["format"], str(path))
        assert file["n_bytes"] == path.stat().st_size + sum((path.parent / m.name).stat().st_size for m in beside)


def test_a_unit_that_keeps_nothing_has_no_files(tmp_path: Path) -> None:
    report = write(Target(str(tmp_path)), [])
    assert (report["rows"], report["content"], report["files"], report["licences"]) == (0, "", [], {})
    assert not list((tmp_path / SHARDS / "u").iterdir())


def test_an_error_leaves_no_index_of_the_open_shard(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="added twice"),
        Target(str(tmp_path)).unit("u") as place,
        ShardsOut(place, "attempt", FORMATS, ShardLimits(max_shard_rows=4)) as shards,
    ):
        for one in [*SAMPLES[:6], SAMPLES[5]]:
            shards.add(one)
    indexes = {path.name for path in (tmp_path / SHARDS / "u").glob("*.index.arrow")}
    assert len(indexes) == len(FORMATS)
    assert all(name.startswith("attempt-00000.") for name in indexes)


def test_a_url_gets_the_same_files_and_nothing_stays_here(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    limits = ShardLimits(max_shard_rows=4)
    here = write(Target(str(tmp_path / "here")), SAMPLES, limits)
    there = write(Target(str(tmp_path / "there"), f"{bucket}/x"), SAMPLES, limits)
    assert not list(scratch.iterdir())
    assert not (tmp_path / "there").exists()
    folder = tmp_path / "here" / SHARDS
    assert storage.names_below(f"{bucket}/x/{SHARDS}") == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    as_there = [
        {k: f"{bucket}/x/{v}" if k in ("path", "index_path") else v for k, v in file.items()} for file in here["files"]
    ]
    assert there["files"] == as_there
    with opened(tmp_path, there["files"][0]["path"], there["files"][0]["sha256"]) as local:
        assert Path(local).read_bytes() == (tmp_path / "here" / here["files"][0]["path"]).read_bytes()


@pytest.mark.parametrize("wrong", [{"max_shard_rows": -1}, {"max_shard_bytes": -1}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        ShardLimits(**wrong)
