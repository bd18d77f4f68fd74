"""The frozen plan: which rows are worked on, in which unit, in which order.

A unit is a run of consecutive rows. Its id is a hash of its rows' ids and of what is done to them, so the same input
gives the same units. A plan counts once its commit (`plan-…` in `commits`) names its generation; rows of a generation
that no commit names are what a killed run left, and are removed before the next plan is written.

A further plan (`--plan new`) holds only the rows whose outcome the new options or lists could change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.catalog import Catalog, CommitRow
from jobs.faults import write_point
from jobs.images.options import ImageOptions
from jobs.images.read import RECORD_FIELDS
from jobs.images.records import WorkUnit
from jobs.options import PolicyOptions
from jobs.web.options import FetchOptions
from licet.errors import MismatchError, UsageError
from licet.sources import Source

_ROWS_PER_FILE = 50_000
"""An executor reads its unit from a file of at most about this many rows."""


def plan_options(
    sources: Sequence[Source],
    digests: Mapping[str, Sequence[str]],
    policy: PolicyOptions,
    fetch: FetchOptions,
    image: ImageOptions,
    formats: Sequence[str],
    rows_per_unit: int,
) -> dict[str, Any]:
    """Everything that the outcome depends on, as JSON: what a frozen plan is compared with.

    A source's location is not in it (folders move), nor is what only changes speed.
    """
    described = {s.id: {**asdict(s), "lists": list(digests[s.id])} for s in sources}
    for source in described.values():
        del source["location"]
    return {
        "sources": described,
        "policy": asdict(policy) | {"rules": policy.policy().hash},
        "fetch": {k: v for k, v in asdict(fetch).items() if k != "threads"},
        "image": asdict(image),
        "formats": sorted(formats),
        "rows_per_unit": rows_per_unit,
    }


def require_same(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `MismatchError`, which shows the difference, unless the options are those of the frozen plan."""
    lines = list(differences(stored, asked))
    if lines:
        shown = "\n".join(f"  {line}" for line in lines[:20]) + ("\n  …" if len(lines) > 20 else "")
        raise MismatchError(
            f"the plan in this output was frozen with other options or lists:\n{shown}\n"
            "Run it as it was, or give --plan new (rows that the change concerns are planned again), "
            "or another --output."
        )


def differences(stored: Any, asked: Any, where: str = "") -> list[str]:
    """One line for each value that differs, with the path to it."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        keys = [*stored, *[key for key in asked if key not in stored]]
        found = [differences(stored.get(k), asked.get(k), f"{where}.{k}" if where else k) for k in keys]
        return [line for lines in found for line in lines]
    return [] if stored == asked else [f"{where}: {_brief(stored)} -> {_brief(asked)}"]


def freeze_plan(catalog: Catalog, rows: DataFrame, options: Mapping[str, Any], sources: Sequence[Source]) -> None:
    """Write the rows to `plan` and name them in `commits`: the plan counts from then on.

    Raises `UsageError` when a first plan would be empty.
    """
    generation = catalog.next_generation()
    catalog.remove_plan_rows_from(generation)
    first = catalog.plan_options() is None
    if not first:
        rows = rows_to_plan(catalog, rows, options)
    planned = _in_units(rows, options, generation).persist()
    n_rows = planned.count()
    if not n_rows and first:
        raise UsageError("the lists of these sources hold no rows: nothing was written.")
    n_files = max(1, -(-n_rows // _ROWS_PER_FILE))
    spread = planned.repartition(n_files, F.floor(F.col("unit_index") * options["rows_per_unit"] / _ROWS_PER_FILE))
    if n_rows:
        catalog.append_plan(spread.drop("unit_index").sortWithinPartitions("ordinal"))
    write_point("plan half written")
    catalog.write_sources(sources)
    text = json.dumps(options, sort_keys=True, ensure_ascii=False)
    plan_id = f"plan-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    catalog.commit([CommitRow(kind="plan", unit_id=plan_id, generation=generation, planned=n_rows, options=text)])
    planned.unpersist()
    write_point("plan frozen, no unit")


def rows_to_plan(catalog: Catalog, rows: DataFrame, options: Mapping[str, Any]) -> DataFrame:
    """Of the rows of new lists: those that are new, read differently, or could come to another outcome.

    An outcome depends on the options of the stages that the row passed: a policy's refusal on the policy, a failed
    fetch on how it was fetched, everything after it on the image options and formats.
    """
    stored = catalog.plan_options() or {}
    changed = {name for name in options if stored.get(name) != options[name]}
    pixels = bool(changed & {"image", "formats"})
    stage = F.col("was.stage")
    concerned: Column = F.col("was.row_id").isNull() | (F.col("was.digest") != _digest("now."))
    if "policy" in changed:
        concerned = concerned | (stage == "policy")
    if "fetch" in changed:
        concerned = concerned | (stage == "fetch")
    if pixels:
        concerned = concerned | ~stage.isin("read", "policy", "fetch")
    latest = catalog.current_plan().withColumn("digest", _digest()).select("row_id", "digest")
    was = latest.join(catalog.current_outcomes().select("row_id", "stage"), "row_id").alias("was")
    return (
        rows.alias("now").join(was, F.col("now.row_id") == F.col("was.row_id"), "left").where(concerned).select("now.*")
    )


def work_units(catalog: Catalog) -> list[WorkUnit]:
    """The units of all frozen plans that `commits` does not list, in plan order."""
    done = {(row["unit_id"], row["generation"]) for row in catalog.commits("unit", columns=["unit_id"])}
    found = (
        catalog.read("plan")
        .where(F.col("generation").isin(catalog.generations()))
        .select("generation", "unit_id", "ordinal", "_metadata.file_path")
        .groupBy("generation", "unit_id")
        .agg(F.min("ordinal").alias("first"), F.count("*").alias("n"), F.collect_set("file_path").alias("files"))
        .collect()
    )
    units = [WorkUnit(r.unit_id, r.generation, r["first"], r.n, tuple(sorted(r.files))) for r in found]
    missing = (unit for unit in units if (unit.unit_id, unit.generation) not in done)
    return sorted(missing, key=lambda unit: (unit.generation, unit.first_ordinal))


def _in_units(rows: DataFrame, options: Mapping[str, Any], generation: int) -> DataFrame:
    """Cut rows into units by their ordinals, and name the units."""
    treated = json.dumps([options["image"], options["policy"]["rules"]], sort_keys=True)
    indexed = rows.withColumn("unit_index", F.floor(F.col("ordinal") / options["rows_per_unit"]).cast("bigint"))
    row_ids = F.transform(F.array_sort(F.collect_list(F.struct("ordinal", "row_id"))), lambda pair: pair["row_id"])
    unit_id = F.substring(F.sha2(F.concat_ws("\n", F.lit(treated), row_ids), 256), 1, 32)
    names = indexed.groupBy("unit_index").agg(unit_id.alias("unit_id"))
    return indexed.join(names, "unit_index").withColumn("generation", F.lit(generation).cast("int"))


def _digest(prefix: str = "") -> Column:
    """What a row of a list says, as one hash."""
    said = [F.coalesce(f"{prefix}{name}", F.lit("")) for name in (*RECORD_FIELDS, "problem")]
    return F.sha2(F.concat_ws("\x1f", *said), 256)


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
