"""Exact duplicates: of the kept rows with the same original bytes, the first in plan order is kept, for all of them.

What the kept row then carries is said by `licet.policy.merge_duplicates`. Nothing that was written is changed: a later
generation of outcomes, in files of its own, says which rows are dropped and what the kept ones carry now.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.catalog import Catalog, CommitRow
from jobs.images.unit import count_outcomes, write_outcomes
from jobs.layout import SHARDS
from licet.licences import normalise
from licet.policy import Policy, merge_duplicates
from licet.records import OUTCOME_SCHEMA
from licet.shards.index import file_sha256


def reject_duplicates(catalog: Catalog, policy: Policy) -> int:
    """Find clusters in Spark, write their outcomes and commit them; returns how many rows were dropped.

    Done twice it changes nothing: once committed, the clusters are gone.
    """
    alike = Window.partitionBy("sha256")
    kept = catalog.current_outcomes().where("state = 'kept'").withColumn("copies", F.count("*").over(alike))
    clusters = kept.where("copies > 1").drop("copies").repartition("sha256")
    ordered = clusters.sortWithinPartitions("sha256", "plan_generation", "ordinal")
    merge = partial(_merge_partition, str(catalog.output), catalog.next_generation(), policy)
    reports = [json.loads(row.report) for row in ordered.mapInArrow(merge, "report string").collect()]
    if reports:
        catalog.commit([CommitRow(**report) for report in reports])
    return sum(report["rejected"] for report in reports)


def _merge_partition(
    output: str, generation: int, policy: Policy, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On an executor: merge the clusters of one partition into one outcomes file, and report it."""
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    outcomes = [
        outcome
        for _, cluster in itertools.groupby(rows, key=itemgetter("sha256"))
        for outcome in merged_outcomes(list(cluster), generation, policy)
    ]
    if not outcomes:
        return
    names = json.dumps([[o["row_id"], o["state"], o["licence"], o["attribution"]] for o in outcomes])
    unit_id = f"dedup-{hashlib.sha256(names.encode()).hexdigest()[:32]}"
    attempt = uuid.uuid4().hex
    path = Path(output) / SHARDS / unit_id / f"{attempt}.outcomes.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_outcomes(path, outcomes)
    report = {
        "kind": "dedup",
        "unit_id": unit_id,
        "generation": generation,
        "attempt": attempt,
        "planned": len(outcomes),
        **count_outcomes(outcomes),
        "outcomes_path": str(path.relative_to(output)),
        "outcomes_sha256": file_sha256(str(path)),
    }
    yield pa.RecordBatch.from_pylist([{"report": json.dumps(report)}])


def merged_outcomes(cluster: list[dict[str, Any]], generation: int, policy: Policy) -> list[dict[str, Any]]:
    """Outcomes of a later generation for a cluster in plan order. `unit_id` stays that of the shard with the payload.

    Should the policy not let the united licence in, the whole cluster is rejected.
    """
    first, *others = cluster
    merged = merge_duplicates(cluster)
    changed = {"generation": generation, "at": datetime.datetime.now(datetime.timezone.utc)}
    licence = normalise(merged.licence)
    united = {"licence": licence, "attribution": merged.attribution, "creator": merged.creator}
    decision = policy.decide(licence, credited=bool(merged.creator or merged.attribution))
    if decision.allowed:
        outcome = first | united | changed | {"rule": decision.rule}
    else:
        refused = {"state": "rejected", "stage": "deduplicate", "reason": "denied", "rule": decision.rule}
        outcome = first | united | changed | refused | {"detail": f"{decision.reason} ({licence})"}
    dropped = {
        "state": "rejected",
        "stage": "deduplicate",
        "reason": "duplicate",
        "rule": "",
        "detail": f"the same bytes as {first['source_url']}"[:300],
        "duplicate_of": merged.row_id,
    }
    return [
        {name: row[name] for name in OUTCOME_SCHEMA.names}
        for row in (outcome, *[other | changed | dropped for other in others])
    ]
