"""Copies among the kept rows: the first in plan order is kept, for all of them.

    exact   the same original bytes
    near    perceptual hashes that differ in a few bits (see `jobs.images.alike`), and copies of copies

What the kept row then carries is said by `licet.policy.merge_duplicates`. Rows of all runs into an output are compared.
Nothing that was written is changed: a later generation of outcomes, in files of its own, says which rows are dropped
and what the kept ones carry now.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.catalog import Catalog, CommitRow
from jobs.images.alike import has_detail, hash_of, near_pairs
from jobs.images.components import components
from jobs.images.dedup_options import DedupOptions
from jobs.images.outcomes import count_outcomes, write_outcomes
from jobs.target import Target
from licet.policy import Policy, merge_duplicates
from licet.records import OUTCOME_SCHEMA
from licet.shards.index import file_sha256

_WORK = "shards/_dedup"
"""Below the output: intermediate results, empty between runs."""

EXACT = DedupOptions()

_COMPARED = "state = 'kept' or (stage = 'rights' and sha256 != '')"
"""What was fetched and then refused for an opt-out is compared too: its copies are not to be used either."""
_ORDINAL_BITS = 40
_ROWS_PER_FILE = 20_000
"""Outcomes of one file, more only where one cluster has more."""


def reject_duplicates(
    catalog: Catalog, policy: Policy, options: DedupOptions = EXACT, target: Target | None = None
) -> int:
    """Find clusters in Spark, write their outcomes and commit them; returns how many rows were dropped.

    Outcomes go to `target`, below the output without it. Done twice it changes nothing: once committed, the clusters
    are gone.
    """
    if options.mode == "none":
        return 0
    work = catalog.output / _WORK
    shutil.rmtree(work, ignore_errors=True)  # what a killed driver left
    try:
        compared = catalog.current_outcomes().where(_COMPARED).withColumn("place", _place())
        clusters = _exact(compared) if options.mode == "exact" else _near(compared, options.near_distance, work)
        ordered = clusters.repartition("root").sortWithinPartitions("root", "place")
        merge = partial(_merge_partition, target or Target(str(catalog.output)), catalog.next_generation(), policy)
        reports = [json.loads(row.report) for row in ordered.mapInArrow(merge, "report string").collect()]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if reports:
        catalog.commit([CommitRow(**report) for report in reports])
    return sum(report["rejected"] for report in reports)


def _place() -> Column:
    """A row's place among all plans, as one bigint: its id, which no recomputation changes."""
    return F.shiftleft(F.col("plan_generation").cast("bigint"), _ORDINAL_BITS) + F.col("ordinal")


def _exact(rows: DataFrame) -> DataFrame:
    """The rows of all clusters of equal bytes; `root` is the place of a cluster's first."""
    groups = rows.groupBy("sha256").agg(F.min("place").alias("root"), F.count("*").alias("copies"))
    return rows.join(groups.where("copies > 1").drop("copies"), "sha256")


def _near(compared: DataFrame, distance: int, work: Path) -> DataFrame:
    """The rows of all clusters of equal bytes, equal hashes and near hashes; `root` as above."""
    keep = partial(keep_rows, work)
    hashed = F.when(has_detail(F.col("phash")), hash_of(F.col("phash")))
    rows = keep(compared.select(F.col("place").alias("id"), "sha256", hashed.alias("hash")), "rows")
    roots = near_roots(rows, distance, keep)
    return compared.join(roots, compared["place"] == roots["id"]).drop("id")


def near_roots(rows: DataFrame, distance: int, keep: Callable[[DataFrame, str], DataFrame]) -> DataFrame:
    """(id, root) of each row that is in a cluster. `rows` has id, sha256 and hash, null where it says nothing."""
    hashes = keep(rows.where("hash is not null").groupBy("hash").agg(F.min("id").alias("id")), "hashes")
    edges = _to_first(rows, "sha256").union(_to_first(rows, "hash"))
    if distance:
        edges = edges.union(near_pairs(hashes, distance))
    return components(keep(edges.distinct(), "edges"), keep)


def _to_first(rows: DataFrame, column: str) -> DataFrame:
    """Edges (a, b) from each row to the first with the same value; null is no value."""
    first = rows.where(F.col(column).isNotNull()).groupBy(column).agg(F.min("id").alias("b"))
    return rows.join(first, column).where("id != b").select(F.col("id").alias("a"), "b")


def keep_rows(work: Path, rows: DataFrame, name: str) -> DataFrame:
    """Store rows where every executor reads them, and give them back without their past."""
    path = str(work / name)
    rows.write.parquet(path)
    return rows.sparkSession.read.schema(rows.schema).parquet(path)


def _merge_partition(
    target: Target, generation: int, policy: Policy, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On an executor: merge the clusters of one partition into outcomes files, and report each."""
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    outcomes: list[dict[str, Any]] = []
    for _, cluster in itertools.groupby(rows, key=itemgetter("root")):
        outcomes += merged_outcomes(list(cluster), generation, policy)
        if len(outcomes) >= _ROWS_PER_FILE:
            yield _written(target, generation, outcomes)
            outcomes = []
    if outcomes:
        yield _written(target, generation, outcomes)


def _written(target: Target, generation: int, outcomes: list[dict[str, Any]]) -> pa.RecordBatch:
    """Write an outcomes file; its report, as one row."""
    names = json.dumps([[o["row_id"], o["state"], o["licence"], o["attribution"]] for o in outcomes])
    unit_id = f"dedup-{hashlib.sha256(names.encode()).hexdigest()[:32]}"
    attempt = uuid.uuid4().hex
    with target.unit(unit_id) as place:
        path = place.folder / f"{attempt}.outcomes.parquet"
        write_outcomes(path, outcomes)
        sha256 = file_sha256(str(path))
        kept_path = place.keep(path)
    report = {
        "kind": "dedup",
        "unit_id": unit_id,
        "generation": generation,
        "attempt": attempt,
        "planned": len(outcomes),
        **count_outcomes(outcomes),
        "outcomes_path": kept_path,
        "outcomes_sha256": sha256,
    }
    return pa.RecordBatch.from_pylist([{"report": json.dumps(report)}])


def merged_outcomes(cluster: list[dict[str, Any]], generation: int, policy: Policy) -> list[dict[str, Any]]:
    """Outcomes of a later generation for the kept rows of a cluster in plan order; none when it has no kept row.

    `unit_id` stays that of the shard with the payload. Should one member have been refused for an opt-out, or the
    policy not let the united licence in, the whole cluster is rejected.
    """
    changed = {"generation": generation, "at": datetime.datetime.now(datetime.timezone.utc)}
    kept = [row for row in cluster if row["state"] == "kept"]
    opted_out = [row for row in cluster if row["state"] != "kept"]
    if opted_out or not kept:
        return [_named(row | changed | _bound(opted_out[0])) for row in kept]
    first, *others = kept
    merged = merge_duplicates(kept)
    united = {"licence": merged.licence, "attribution": merged.attribution, "creator": merged.creator}
    decision = policy.decide(merged.licence, credited=bool(merged.creator or merged.attribution))
    if decision.allowed:
        outcome = first | united | changed | {"rule": decision.rule}
    else:
        refused = {"state": "rejected", "stage": "deduplicate", "reason": "denied", "rule": decision.rule}
        outcome = first | united | changed | refused | {"detail": f"{decision.reason} ({merged.licence})"}
    return [_named(row) for row in (outcome, *[other | changed | _dropped(other, first) for other in others])]


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in OUTCOME_SCHEMA.names}


def _bound(opted_out: dict[str, Any]) -> dict[str, Any]:
    """What an outcome says of a row whose copy elsewhere asks not to be used."""
    return {
        "state": "rejected",
        "stage": "deduplicate",
        "reason": "opted-out-copy",
        "rule": "",
        "detail": f"{opted_out['reason']}: {opted_out['source_url']}"[:300],
        "duplicate_of": opted_out["row_id"],
    }


def _dropped(row: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """What an outcome says of a row that gives way to the first of its cluster."""
    same = row["sha256"] == first["sha256"]
    how = "the same bytes as" if same else f"its hash differs in {_differing_bits(row, first)} of 64 bits from that of"
    return {
        "state": "rejected",
        "stage": "deduplicate",
        "reason": "duplicate" if same else "near-duplicate",
        "rule": "",
        "detail": f"{how} {first['source_url']}"[:300],
        "duplicate_of": first["row_id"],
    }


def _differing_bits(row: dict[str, Any], first: dict[str, Any]) -> int:
    """More than near_distance where the two are near through rows between them."""
    return (int(row["phash"] or "0", 16) ^ int(first["phash"] or "0", 16)).bit_count()
