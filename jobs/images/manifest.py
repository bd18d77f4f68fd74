"""A catalog's kept rows as a manifest: licences decided again, indexes revised where they no longer say what holds.

Each shard is looked at by one Spark task, which returns a `ShardEntry`; the driver holds entries, never rows. A shard
is never changed: a revised index lies beside it under a name made of its content.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.catalog import Catalog
from jobs.faults import write_point
from licet import __version__
from licet.errors import PolicyRefusedError
from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Decision, Policy
from licet.shards.index import ShardIndex, content_hash, file_sha256, fsync_folder, total_by

_CHANGEABLE = ("licence", "attribution", "creator")
"""What a later outcome may say otherwise than the shard's first index, beside whether the row is live."""


@dataclass(frozen=True)
class _Shards:
    """One unit's shards, as `commits` lists them."""

    unit_id: str
    files: list[dict[str, Any]]


def publish_manifest(
    spark: SparkSession, catalog_path: Path, path: Path, policy: Policy, parent: Manifest | None = None
) -> Manifest:
    """Write a manifest of every kept row that the policy allows.

    Raises `UsageError` without a catalog, `PolicyRefusedError` (and writes no manifest) when no row is allowed.
    """
    catalog = Catalog(spark, catalog_path)
    catalog.require()
    units = catalog.shard_units()
    entries = _entries(catalog, units, path.parent, policy)
    if not sum(entry.live_rows for entry in entries):
        kept = sum(unit["rows"] for unit in units)
        raise PolicyRefusedError(
            f"no row of {catalog_path} may be used for {policy.purpose.value}: {kept} rows lie in its shards, "
            "none has a licence that this policy allows. Nothing was published."
        )
    revoked = _revoked(spark, entries, path.parent, parent) if parent else []
    envelope = {
        "published_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "catalog": os.path.relpath(catalog_path, path.parent),
        "catalog_version": catalog.version(),
        "licet_version": __version__,
        "overrides": {rule: outcome.value for rule, outcome in sorted(policy.overrides.items())},
    }
    return write_manifest(
        path, entries, policy.purpose, policy.hash, parent=parent, revoked=_after_pages(revoked), envelope=envelope
    )


def _entries(catalog: Catalog, units: list[dict[str, Any]], root: Path, policy: Policy) -> list[ShardEntry]:
    """The entries of all units with a live row, in plan order."""
    if not units:
        return []
    kept = catalog.current_outcomes().where("state = 'kept'").select("unit_id", "row_id", *_CHANGEABLE)
    rows = kept.groupBy("unit_id").agg(F.collect_list(F.struct("row_id", *_CHANGEABLE)).alias("rows"))
    files = pa.Table.from_pylist([{"unit_id": u["unit_id"], "files": json.dumps(u["files"])} for u in units])
    joined = rows.join(catalog.spark.createDataFrame(files), "unit_id").repartition(min(len(units), 1000))
    revise = partial(_revise_units, str(catalog.output), str(root), policy)
    found = joined.mapInArrow(revise, "entry string").collect()
    entries = {entry.unit_id: entry for entry in (_entry_from(row.entry) for row in found)}
    in_order = (entries.get(unit["unit_id"]) for unit in units)
    return [entry for entry in in_order if entry is not None and entry.live_rows]


def _revise_units(
    output: str, root: str, policy: Policy, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On an executor: one entry for each unit that arrives."""
    decide = functools.lru_cache(maxsize=4096)(policy.decide)
    for batch in batches:
        for unit in batch.to_pylist():
            entry = revise_unit(_Shards(unit["unit_id"], json.loads(unit["files"])), unit["rows"], output, root, decide)
            yield pa.RecordBatch.from_pylist([{"entry": json.dumps(asdict(entry))}])


def revise_unit(shards: _Shards, rows: list[dict[str, str]], output: str, root: str, decide: Any) -> ShardEntry:
    """A unit's entry. `rows` are the kept rows that lie in its shards; `decide(licence, credited)` is a policy's."""
    wanted = {row["row_id"]: _wanted(row, decide) for row in rows}
    files: dict[str, ShardFile] = {}
    index: ShardIndex | None = None
    for file in shards.files:
        first_path = os.path.join(output, file["index_path"])
        index, index_path = _revised_index(first_path, wanted)
        files[file["format"]] = ShardFile(
            path=os.path.relpath(os.path.join(output, file["path"]), root),
            sha256=file["sha256"],
            n_bytes=file["n_bytes"],
            index_path=os.path.relpath(index_path, root),
            index_sha256=file_sha256(index_path),
        )
    assert index is not None  # a unit without shards is not asked about
    live = index.live_positions()
    contents = index.table.column("content").to_pylist()
    return ShardEntry(
        unit_id=shards.unit_id,
        rows=len(index),
        live_rows=len(live),
        content=content_hash(contents[position] for position in live),
        licences=total_by([index], "licence"),
        languages=total_by([index], "language"),
        sources=total_by([index], "source_id"),
        files=files,  # type: ignore[arg-type]
    )


def _wanted(row: dict[str, str], decide: Any) -> dict[str, Any]:
    """What an index must say of a kept row: live if the policy allows it, under the alternative that it chose."""
    decision: Decision = decide(row["licence"], bool(row["creator"] or row["attribution"]))
    if not decision.allowed:
        return {"live": False}
    return {"live": True, "licence": decision.licence} | {name: row[name] for name in ("attribution", "creator")}


def _revised_index(first_path: str, wanted: dict[str, dict[str, Any]]) -> tuple[ShardIndex, str]:
    """The index that says what is wanted, and its path: the first one where it does."""
    first = ShardIndex.open(first_path)
    changes: dict[str, dict[str, Any]] = {}
    for said in first.table.select(["key", "live", *_CHANGEABLE]).to_pylist():
        asked = wanted.get(said["key"], {"live": False})
        if any(said[name] != value for name, value in asked.items()):
            changes[said["key"]] = asked
    if not changes:
        return first, first_path
    index = first.revised(changes)
    partial_path = f"{first_path.removesuffix('.index.arrow')}.{uuid.uuid4().hex}.partial"
    index.write(partial_path)
    path = f"{first_path.removesuffix('.index.arrow')}.{file_sha256(partial_path)[:16]}.index.arrow"
    os.replace(partial_path, path)
    fsync_folder(os.path.dirname(path))
    return index, path


def _entry_from(text: str) -> ShardEntry:
    values = json.loads(text)
    files = {format: ShardFile(**file) for format, file in values.pop("files").items()}
    return ShardEntry(**values, files=files)


def _revoked(spark: SparkSession, entries: list[ShardEntry], root: Path, parent: Manifest) -> list[str]:
    """Keys that were live in the parent and are not live now; only these come to the driver."""
    before = _live_keys(spark, [parent.resolve(_an_index(entry)) for entry in parent.entries()])
    now = _live_keys(spark, [str(root / _an_index(entry)) for entry in entries])
    return [row.key for row in before.join(now, "key", "left_anti").collect()]


def _an_index(entry: ShardEntry) -> str:
    return next(iter(entry.files.values())).index_path


def _live_keys(spark: SparkSession, index_paths: list[str]) -> DataFrame:
    paths = spark.createDataFrame(pa.table({"path": index_paths})).repartition(max(1, min(len(index_paths), 1000)))
    return paths.mapInArrow(_keys_of, "key string")


def _keys_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for path in batch.column("path").to_pylist():
            table = ShardIndex.open(path).table
            yield from table.filter(table["live"]).select(["key"]).to_batches()


def _after_pages(revoked: list[str]) -> Iterator[str]:
    """`write_manifest` reads these when its pages are written and its root is not."""
    write_point("manifest page written, no root")
    yield from revoked
