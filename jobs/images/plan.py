"""The frozen plan: which rows are worked on, in which unit, in which order.

A row's unit follows from its URL's hash, so the rows of one canonical URL lie side by side in one unit (they are
fetched once) and the URLs of one host are spread over all units (a slow host cannot hold one back). A unit's id is a
hash of its rows' ids and of what is done to them, so the same input gives the same units. A plan counts once its commit
(`plan-…` in `commits`) names its generation; rows of a generation that no commit names are what a killed run left, and
are removed before the next plan is written.

Further plans hold only some rows: those that new lists bring (`--plan extend`), those whose outcome new options could
change (`--plan new`), those that failed for a passing reason (`--retry transient`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.catalog import Catalog, CommitRow
from jobs.faults import write_point
from jobs.images.job import Job
from jobs.images.lists.read import Rows
from jobs.images.lists.record import DERIVED_FIELDS, RECORD_FIELDS
from jobs.images.records import WorkUnit
from jobs.web.options import SPEED
from licet.errors import MismatchError, UsageError
from licet.sources import Source

_ROWS_PER_FILE = 50_000
"""An executor reads its unit from a file of about this many rows."""
_MOST_FOR_ONE_URL = 4
"""A unit holds at most so many times the rows that were asked for, or 1000 if that is more: a URL that a list repeats
without end is fetched once for each such part."""

PLANNED = (
    "generation", "unit_id", "unit_index", "place", "ordinal", "row_id", "line", "url_hash", *RECORD_FIELDS,
    *DERIVED_FIELDS,
)  # fmt: skip
"""Columns of the plan table. `place` is a row's number in its unit, `ordinal` its number in the lists."""


def plan_options(job: Job, digests: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Everything that the outcome depends on, as JSON: what a frozen plan is compared with.

    A source's location is not in it (folders move), nor is what only changes speed.
    """
    described = {s.id: {**asdict(s), "lists": list(digests[s.id])} for s in job.sources}
    for source in described.values():
        del source["location"]
    return {
        "sources": described,
        "policy": asdict(job.policy) | {"rules": job.policy.policy().hash},
        "fetch": {k: v for k, v in asdict(job.fetch).items() if k not in SPEED},
        "image": asdict(job.image),
        "shards": asdict(job.limits),
        "rights": {"agent": job.rights.agent},
        "decoder": {k: v for k, v in asdict(job.decoder).items() if k != "processes"},
        "formats": sorted(job.formats),
        "rows_per_unit": job.rows_per_unit,
    }


def require_same(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `MismatchError`, which shows the difference, unless the options are those of the frozen plan."""
    lines = list(differences(stored, asked))
    if lines:
        shown = "\n".join(f"  {line}" for line in lines[:20]) + ("\n  …" if len(lines) > 20 else "")
        raise MismatchError(
            f"the plan in this output was frozen with other options or lists:\n{shown}\n"
            "Run it as it was, or give --plan extend (only rows that are new in the lists; options as they were), "
            "--plan new (rows that the change concerns are planned again), or another --output."
        )


def require_extension(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `MismatchError` unless all that differs is what the lists hold and which sources there are more."""

    def without_lists(options: Mapping[str, Any]) -> dict[str, Any]:
        known = {id: source for id, source in options["sources"].items() if id in stored["sources"]}
        bare = {id: {k: v for k, v in source.items() if k != "lists"} for id, source in known.items()}
        return {**options, "sources": bare}

    require_same(without_lists(stored), without_lists(asked))


def differences(stored: Any, asked: Any, where: str = "") -> list[str]:
    """One line for each value that differs, with the path to it."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        keys = [*stored, *[key for key in asked if key not in stored]]
        found = [differences(stored.get(k), asked.get(k), f"{where}.{k}" if where else k) for k in keys]
        return [line for lines in found for line in lines]
    return [] if stored == asked else [f"{where}: {_brief(stored)} -> {_brief(asked)}"]


def freeze_plan(
    catalog: Catalog,
    rows: Rows,
    options: Mapping[str, Any],
    sources: Sequence[Source],
    extra: Mapping[str, pa.Schema] | None = None,
) -> int:
    """Write the rows to `plan` and name them in `commits`: the plan counts from then on. Returns how many they are.

    Raises `UsageError` when a first plan would be empty.
    """
    generation = catalog.next_generation()
    catalog.remove_plan_rows_from(generation)
    first = catalog.plan_options() is None
    if first and not rows.n:
        raise UsageError("the lists of these sources hold no rows: nothing was written.")
    identified = _with_row_ids(_in_buckets(rows.frame, rows.n, options["rows_per_unit"]))
    if first:
        return _freeze(catalog, identified, rows.n, generation, options, sources, extra)
    chosen = rows_to_plan(catalog, identified, options).persist(StorageLevel.DISK_ONLY)
    try:
        n = chosen.count()
        frame = _in_buckets(chosen, n, options["rows_per_unit"])
        return _freeze(catalog, frame, n, generation, options, sources, extra)
    finally:
        chosen.unpersist()


def freeze_retry(catalog: Catalog, options: Mapping[str, Any]) -> int:
    """Plan again the rows that failed for a reason that may have passed; returns how many. The lists are not read.

    A row that waits in a later plan for its turn is not among them.
    """
    generation = catalog.next_generation()
    catalog.remove_plan_rows_from(generation)
    ended = F.col("generation") >= F.col("plan_generation")
    failed = catalog.current_outcomes().where("state = 'rejected' and transient").where(ended).select("row_id")
    chosen = catalog.current_plan().join(failed, "row_id").persist(StorageLevel.DISK_ONLY)
    try:
        n = chosen.count()
        if n:
            frame = _in_buckets(chosen, n, options["rows_per_unit"])
            _freeze(catalog, frame, n, generation, options, (), None)
        return n
    finally:
        chosen.unpersist()


def _freeze(
    catalog: Catalog,
    rows: DataFrame,
    n_rows: int,
    generation: int,
    options: Mapping[str, Any],
    sources: Sequence[Source],
    extra: Mapping[str, pa.Schema] | None,
) -> int:
    if n_rows:
        planned = _in_units(rows, options).withColumn("generation", F.lit(generation).cast("int")).select(*PLANNED)
        catalog.append_plan(planned.sortWithinPartitions("unit_index", "place"))
    write_point("plan half written")
    if sources:
        catalog.write_sources(sources, extra or {})
    text = json.dumps(options, sort_keys=True, ensure_ascii=False)
    plan_id = f"plan-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    catalog.commit([CommitRow(kind="plan", unit_id=plan_id, generation=generation, planned=n_rows, options=text)])
    write_point("plan frozen, no unit")
    return n_rows


def rows_to_plan(catalog: Catalog, rows: DataFrame, options: Mapping[str, Any]) -> DataFrame:
    """Of the rows of new lists: those that are new, read differently, or could come to another outcome.

    An outcome depends on the options of the stages that the row passed: a policy's refusal on the policy, a failed
    fetch on how it was fetched, everything after it on the image options and formats. Rows that wait for their turn
    are planned again when any option changed.
    """
    stored = catalog.plan_options() or {}
    changed = {name for name in options if stored.get(name) != options[name]}
    stage = F.col("was.stage")
    concerned: Column = F.col("was.row_id").isNull() | (F.col("was.digest") != _digest("now."))
    if changed - {"sources"}:
        concerned = concerned | stage.isNull()
    if "policy" in changed:
        concerned = concerned | (stage == "policy")
    if "fetch" in changed:
        concerned = concerned | stage.isin("rights", "fetch")
    if "rights" in changed:
        concerned = concerned | ~stage.isin("read", "policy")
    if "decoder" in changed:
        concerned = concerned | (stage == "decode")
    if changed & {"image", "shards", "formats"}:
        concerned = concerned | ~stage.isin("read", "policy", "rights", "fetch")
    if asked_otherwise := _other_protocols(stored, options):
        concerned = concerned | (F.col("now.source_id").isin(asked_otherwise) & ~stage.isin("read", "policy"))
    latest = catalog.current_plan().withColumn("digest", _digest()).select("row_id", "digest")
    was = latest.join(catalog.current_outcomes().select("row_id", "stage"), "row_id", "left").alias("was")
    return (
        rows.alias("now").join(was, F.col("now.row_id") == F.col("was.row_id"), "left").where(concerned).select("now.*")
    )


def _other_protocols(stored: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Sources that honour other opt-outs than they did."""
    before, now = stored.get("sources", {}), options["sources"]
    name = "opt_out_protocols"
    return [id for id in now if id in before and before[id].get(name) != now[id].get(name)]


def work_units(catalog: Catalog) -> list[WorkUnit]:
    """The units of all frozen plans that `commits` does not list, in plan order.

    A unit whose rows have all been planned again is left out.
    """
    done = {(row["unit_id"], row["generation"]) for row in catalog.commits("unit", columns=["unit_id"])}
    generations = catalog.generations()
    rows = catalog.read("plan").where(F.col("generation").isin(generations))
    last = F.max("generation").over(Window.partitionBy("row_id")) if len(generations) > 1 else F.col("generation")
    found = (
        rows.select("generation", "unit_id", "unit_index", last.alias("last"), "_metadata.file_path")
        .groupBy("generation", "unit_id", "unit_index")
        .agg(F.count("*").alias("n"), F.min("last").alias("last"), F.collect_set("file_path").alias("files"))
        .where(F.col("last") == F.col("generation"))  # not every row of it has been planned again
        .toArrow()
    )
    names: dict[str, str] = {}
    units = [
        WorkUnit(
            row["unit_id"],
            row["generation"],
            row["unit_index"],
            row["n"],
            tuple(names.setdefault(file, file) for file in sorted(row["files"])),
        )
        for batch in found.to_batches()
        for row in batch.to_pylist()
        if (row["unit_id"], row["generation"]) not in done
    ]
    return sorted(units, key=lambda unit: (unit.generation, unit.unit_index))


def figures_of(catalog: Catalog) -> dict[str, int]:
    """Rows, units and hosts of the last frozen plan."""
    rows = catalog.read("plan").where(F.col("generation") == max(catalog.generations()))
    host = F.regexp_extract("canonical_url", "^https?://([^/:]*|\\[[^/]*\\])", 1)
    asked = F.when(F.col("canonical_url") != "", host)
    found = rows.agg(
        F.count("*").alias("rows"),
        F.countDistinct("unit_id").alias("units"),
        F.approx_count_distinct(asked).alias("hosts"),
    ).collect()[0]
    return {"rows": found["rows"], "units": found["units"], "hosts": found["hosts"]}


def _in_buckets(rows: DataFrame, n_rows: int, rows_per_unit: int) -> DataFrame:
    """Bring together the rows of each bucket: all rows of one URL, and about as many as a unit holds.

    The only shuffle of a plan; each partition becomes a file of the plan table.
    """
    n_buckets = max(1, -(-n_rows // rows_per_unit))
    bucket = F.pmod(F.col("url_hash"), F.lit(n_buckets)).cast("bigint")
    n_files = max(1, -(-n_rows // _ROWS_PER_FILE))
    return rows.withColumn("bucket", bucket).withColumn("n_buckets", F.lit(n_buckets)).repartition(n_files, "bucket")


def _with_row_ids(rows: DataFrame) -> DataFrame:
    """Give each row its id (see `licet.records.row_id_of`)."""
    same = Window.partitionBy("bucket", "source_id", "url").orderBy("ordinal")
    occurrence = (F.row_number().over(same) - 1).cast("string")
    row_id = F.substring(F.sha2(F.concat_ws("\x1f", "source_id", "url", occurrence), 256), 1, 32)
    return rows.withColumn("row_id", row_id)


def _in_units(rows: DataFrame, options: Mapping[str, Any]) -> DataFrame:
    """Number the rows of each bucket, cut buckets that are far too large, and name the units.

    A unit's name hashes its number, how many rows it has and the exclusive or of their ids, which are hashes
    themselves: the order in which they come together does not matter.
    """
    treated = json.dumps([options["image"], options["policy"]["rules"]], sort_keys=True)
    largest = max(_MOST_FOR_ONE_URL * options["rows_per_unit"], 1000)
    number = F.row_number().over(Window.partitionBy("bucket").orderBy("url_hash", "canonical_url", "ordinal")) - 1
    unit_index = (F.col("bucket") + F.col("n_buckets") * F.floor(F.col("number") / largest)).cast("bigint")
    cut = rows.withColumn("number", number).withColumn("unit_index", unit_index)
    unit = Window.partitionBy("bucket", "unit_index")
    halves = [F.expr(f"bit_xor(conv(substring(row_id, {at}, 15), 16, 10)::bigint)").over(unit) for at in (1, 16)]
    said = [F.lit(treated), F.col("unit_index"), F.count("*").over(unit), *halves]
    unit_id = F.substring(F.sha2(F.concat_ws("\n", *said), 256), 1, 32)
    return cut.withColumn("unit_id", unit_id).withColumn("place", F.pmod("number", F.lit(largest)).cast("int"))


def _digest(prefix: str = "") -> Column:
    """What a row of a list says, as one hash."""
    said = [F.coalesce(f"{prefix}{name}", F.lit("")) for name in (*RECORD_FIELDS, "problem")]
    return F.sha2(F.concat_ws("\x1f", *said), 256)


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
