"""Shards, indexes and outcomes in an S3-compatible store, beside a local catalog: swept, merged, published, read."""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.catalog import Catalog, CommitRow
from jobs.commit import Committer, sweep
from jobs.images.duplicates import EXACT, reject_duplicates
from jobs.images.outcomes import count_outcomes, write_outcomes
from jobs.images.shards_out import ShardLimits, ShardsOut
from jobs.layout import SHARDS
from jobs.publish import main as publish
from jobs.target import Target
from licet import storage
from licet.errors import DamagedError, ManifestDamagedError
from licet.manifest import read_manifest, verify_manifest
from licet.policy import Policy, Purpose
from licet.records import OUTCOME_SCHEMA, Sample
from licet.shards import ShardFormat, open_reader
from licet.shards.index import file_sha256

FORMATS: tuple[ShardFormat, ...] = ("webdataset", "files")
POLICY = Policy(Purpose.COMMERCIAL_TRAINING)


def sample(number: int, licence: str = "CC0-1.0", creator: str = "") -> Sample:
    payload = f"photo {number}".encode() * 50
    return Sample(
        f"{number:032x}", payload, "jpg", "", 8, 8, 8, 8, hashlib.sha256(payload).hexdigest(), "", "photos",
        f"http://x/{number}", "", licence, "", creator, creator, "en", "{}", "free",
    )  # fmt: skip


def outcome(one: Sample, unit_id: str, **said: Any) -> dict[str, Any]:
    by_type = {"string": "", "bool": False, "timestamp[us, tz=UTC]": datetime.datetime.now(datetime.timezone.utc)}
    empty = {field.name: by_type.get(str(field.type), 0) for field in OUTCOME_SCHEMA}
    known = {name: getattr(one, name) for name in OUTCOME_SCHEMA.names if hasattr(one, name)}
    return empty | known | {"row_id": one.key, "unit_id": unit_id, "generation": 1, "state": "kept"} | said


def work(target: Target, unit_id: str, number: int, samples: Sequence[Sample], **said: Any) -> CommitRow:
    """What a unit leaves, without its network: shards of two rows, outcomes, a report."""
    attempt = uuid.uuid4().hex
    outcomes = [outcome(one, unit_id, **said) for one in samples]
    with target.unit(unit_id) as place, ShardsOut(place, attempt, FORMATS, ShardLimits(max_shard_rows=2)) as shards:
        for one in samples:
            shards.add(one)
        report = shards.close()
        path = place.folder / f"{attempt}.outcomes.parquet"
        write_outcomes(path, outcomes)
        report |= {"outcomes_sha256": file_sha256(str(path)), "outcomes_path": place.keep(path)}
    counts = {"planned": len(samples), **count_outcomes(outcomes)}
    return CommitRow("unit", unit_id, 1, attempt, unit_index=number, **counts, **report)


def plan(catalog: Catalog, samples: Sequence[Sample]) -> None:
    schema = pa.schema({"row_id": pa.string(), "generation": pa.int32(), "ordinal": pa.int64(), "line": pa.int64()})
    rows = [{"row_id": one.key, "generation": 1, "ordinal": i, "line": i} for i, one in enumerate(samples)]
    write_deltalake(str(catalog.path / "plan"), pa.Table.from_pylist(rows, schema))
    catalog.commit([CommitRow("plan", "p", 1, planned=len(rows))])


def test_a_run_whose_shards_lie_at_a_url_is_published_and_read(
    bucket: str, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "cache"))
    target = Target(str(tmp_path / "out"), f"{bucket}/x")
    catalog = Catalog(spark, tmp_path / "out" / "catalog")
    copy = sample(1, "CC-BY-4.0", "Zoë")
    samples = [sample(n) for n in range(5)]
    other = Sample(**{**{f: getattr(copy, f) for f in Sample.__dataclass_fields__}, "key": "f" * 32})
    plan(catalog, [*samples, other])
    with Committer(catalog) as committer:
        committer.add(work(target, "u0", 0, samples))
        committer.add(work(target, "u1", 5, [other]))
    work(target, "u1", 5, [other])  # an attempt that nobody committed
    assert sweep(catalog, target) == 6  # a shard and an index in each format, the folder of files, the outcomes
    assert reject_duplicates(catalog, POLICY, EXACT, target) == 1

    flags = ["--catalog", str(catalog.path), "--policy.purpose", "commercial-training"]
    assert publish([*flags, "--manifest", f"{bucket}/m.json"]) == 0
    manifest = read_manifest(f"{bucket}/m.json")
    verify_manifest(manifest)
    entries = list(manifest.entries())
    assert [(entry.unit_id, entry.rows, entry.live_rows) for entry in entries] == [
        ("u0", 2, 2), ("u0", 2, 2), ("u0", 1, 1),
    ]  # fmt: skip
    assert manifest.totals["licences"] == {"CC-BY-4.0 AND CC0-1.0": 1, "CC0-1.0": 4}
    assert all(file.path.startswith(f"{bucket}/x/") for entry in entries for file in entry.files.values())
    for format in FORMATS:
        found = []
        for entry in entries:
            index, file = manifest.index(entry, format), entry.files[format]
            reader = open_reader(format, manifest.shard(entry, format), index, file.sha256)
            found += [reader[position] for position in range(len(reader))]
            reader.close()
        assert found == samples
    assert not (tmp_path / "out" / SHARDS).exists()

    url = entries[0].files["webdataset"].path
    storage.put_bytes(storage.read_bytes(url)[:-1] + b"x", url)
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "another-cache"))
    with pytest.raises(ManifestDamagedError, match="missing or altered"):
        verify_manifest(manifest)
    storage.remove([url])
    with pytest.raises(FileNotFoundError):
        manifest.shard(entries[0], "webdataset")


def test_outcomes_that_are_gone_from_the_store_are_not_committed(bucket: str, tmp_path: Path) -> None:
    catalog = Catalog(None, tmp_path / "catalog")  # type: ignore[arg-type]
    row = work(Target(str(tmp_path), bucket), "u", 0, [sample(0)])
    storage.remove([row.outcomes_path])
    with pytest.raises(DamagedError, match="cannot be read"), Committer(catalog) as committer:
        committer.add(row)
    assert catalog.commits("unit") == []
