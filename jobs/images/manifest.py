"""A catalog's kept rows as a manifest: licences decided again, indexes revised where they no longer say what holds.

Each unit's shards are looked at by one Spark task, which returns a `ShardEntry` for each; the driver holds entries,
never rows. A shard is never changed: a revised index lies beside it under a name made of its content.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.catalog import Catalog
from jobs.faults import write_point
from jobs.target import locate, opened, put_beside
from licet import __version__
from licet.errors import PolicyRefusedError
from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Decision, Policy
from licet.shards.index import ShardIndex, content_hash, file_sha256, total_by
from licet.storage import is_url

_CHANGEABLE = ("licence", "attribution", "creator")
"""What a later outcome may say otherwise than the shard's first index, beside whether the row is live."""


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
    entries: dict[str, list[ShardEntry]] = {}
    for entry in (_entry_from(row.entry) for row in found):
        entries.setdefault(entry.unit_id, []).append(entry)
    in_order = itertools.chain.from_iterable(entries.get(unit["unit_id"], ()) for unit in units)
    return [entry for entry in in_order if entry.live_rows]


def _revise_units(
    output: str, root: str, policy: Policy, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On an executor: one entry for each shard of the units that arrive, a unit's in their order."""
    decide = functools.lru_cache(maxsize=4096)(policy.decide)
    for batch in batches:
        for unit in batch.to_pylist():
            wanted = {row["row_id"]: _wanted(row, decide) for row in unit["rows"]}
            files = sorted(json.loads(unit["files"]), key=_shard_number)
            entries = [
                revise_shard(unit["unit_id"], list(of_shard), wanted, output, root)
                for _, of_shard in itertools.groupby(files, key=_shard_number)
            ]
            yield pa.RecordBatch.from_pylist([{"entry": json.dumps(asdict(entry))} for entry in entries])


def _shard_number(file: dict[str, Any]) -> int:
    return int(file["shard"] or 0)


def revise_shard(
    unit_id: str, in_formats: list[dict[str, Any]], wanted: dict[str, dict[str, Any]], output: str, root: str
) -> ShardEntry:
    """One shard's entry. `wanted` says of each kept row of its unit what an index must say: see `_wanted`."""
    files: dict[str, ShardFile] = {}
    index: ShardIndex | None = None
    for file in in_formats:
        index, index_place, index_sha256 = _revised_index(output, file, wanted)
        files[file["format"]] = ShardFile(
            path=_from_root(locate(output, file["path"]), root),
            sha256=file["sha256"],
            n_bytes=file["n_bytes"],
            index_path=_from_root(index_place, root),
            index_sha256=index_sha256,
        )
    assert index is not None  # a shard is at least one file
    live = index.live_positions()
    contents = index.table.column("content").to_pylist()
    return ShardEntry(
        unit_id=unit_id,
        rows=len(index),
        live_rows=len(live),
        content=content_hash(contents[position] for position in live),
        licences=total_by([index], "licence"),
        languages=total_by([index], "language"),
        sources=total_by([index], "source_id"),
        files=files,  # type: ignore[arg-type]
    )


def _from_root(place: str, root: str) -> str:
    """A path as the manifest names it: from its own folder; a URL as it is."""
    return place if is_url(place) else os.path.relpath(place, root)


def _wanted(row: dict[str, str], decide: Any) -> dict[str, Any]:
    """What an index must say of a kept row: live if the policy allows it, under the alternative that it chose."""
    decision: Decision = decide(row["licence"], bool(row["creator"] or row["attribution"]))
    if not decision.allowed:
        return {"live": False}
    return {"live": True, "licence": decision.licence} | {name: row[name] for name in ("attribution", "creator")}


def _revised_index(output: str, file: dict[str, Any], wanted: dict[str, dict[str, Any]]) -> tuple[ShardIndex, str, str]:
    """The index that says what is wanted, its place and its hash: the first one where that does."""
    place = locate(output, file["index_path"])
    with opened(output, file["index_path"], file["index_sha256"]) as local:
        first = ShardIndex.open(local)
        changes = _changes(first, wanted)
        if not changes:
            return first, place, file["index_sha256"]
        index = first.revised(changes)
        partial_path = f"{local.removesuffix('.index.arrow')}.{uuid.uuid4().hex}.partial"
        index.write(partial_path)
        sha256 = file_sha256(partial_path)
        place = f"{place.removesuffix('.index.arrow')}.{sha256[:16]}.index.arrow"
        put_beside(partial_path, place)
    return index, place, sha256


def _changes(index: ShardIndex, wanted: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key -> what an index must say otherwise. A row that is not kept is not live."""
    changes = {}
    for said in index.table.select(["key", "live", *_CHANGEABLE]).to_pylist():
        asked = wanted.get(said["key"], {"live": False})
        if any(said[name] != value for name, value in asked.items()):
            changes[said["key"]] = asked
    return changes


def _entry_from(text: str) -> ShardEntry:
    values = json.loads(text)
    files = {format: ShardFile(**file) for format, file in values.pop("files").items()}
    return ShardEntry(**values, files=files)


def _revoked(spark: SparkSession, entries: list[ShardEntry], root: Path, parent: Manifest) -> list[str]:
    """Keys that were live in the parent and are not live now; only these come to the driver."""
    before = _live_keys(spark, [parent.locate(_an_index(entry)) for entry in parent.entries()])
    now = _live_keys(spark, [locate(root, _an_index(entry)) for entry in entries])
    return [row.key for row in before.join(now, "key", "left_anti").collect()]


def _an_index(entry: ShardEntry) -> str:
    return next(iter(entry.files.values())).index_path


def _live_keys(spark: SparkSession, index_paths: list[str]) -> DataFrame:
    paths = spark.createDataFrame(pa.table({"path": index_paths})).repartition(max(1, min(len(index_paths), 1000)))
    return paths.mapInArrow(_keys_of, "key string")


def _keys_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for path in batch.column("path").to_pylist():
            with opened("", path) as local:
                table = ShardIndex.open(local).table
                yield from table.filter(table["live"]).select(["key"]).to_batches()


def _after_pages(revoked: list[str]) -> Iterator[str]:
    """`write_manifest` reads these when its pages are written and its root is not."""
    write_point("manifest page written, no root")
    yield from revoked
