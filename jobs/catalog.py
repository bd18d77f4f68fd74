"""The Delta tables. One is the truth: `commits`. The others are its input, or derived from it and can be made again.

    sources       what each source says of itself
    plan          every row that was planned, by generation
    commits       one row per frozen plan, finished unit or deduplication: paths, hashes, counts
    annotations   what was found out about a row later
    revocations   rows that must not be used any more
    outcomes      the current state of every planned row (derived)
    samples       the kept ones (derived)
    shards        the files that hold them (derived)

A catalog lies in `<output>/catalog`, shards in `<output>/shards`; paths in `commits` start at `<output>`, so that an
output can be moved; what was put into another store is named by its URL. Only the driver writes here. Tables with a row
per URL go through Spark, never through the driver; tables with a row per unit go through `deltalake`, in milliseconds
and without waiting for a free executor. This file does not know what a unit does.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.window import Window

from jobs.target import locate, opened
from licet.errors import DamagedError, UsageError
from licet.extras import write_schema
from licet.records import OUTCOME_SCHEMA
from licet.sources import Source
from licet.storage import is_url

_TIME = pa.timestamp("us", "UTC")
_COUNTS = pa.map_(pa.string(), pa.int64())
_FILE = {"format": pa.string(), "path": pa.string(), "sha256": pa.string(), "n_bytes": pa.int64()}
_FILE |= {"index_path": pa.string(), "index_sha256": pa.string()}
_FILE |= {"shard": pa.int32(), "rows": pa.int64(), "content": pa.string()}
SCHEMAS: dict[str, pa.Schema] = {
    "sources": pa.schema(
        dict.fromkeys(("source_id", "title", "kind", "location", "format"), pa.string())
        | {"languages": pa.list_(pa.string())}
        | dict.fromkeys(("licence", "creator", "credit_template", "personal_data"), pa.string())
        | {"weight": pa.float64(), "record": pa.string()}
    ),
    "commits": pa.schema(
        dict.fromkeys(("kind", "unit_id", "attempt"), pa.string())
        | {"generation": pa.int32()}
        | dict.fromkeys(("unit_index", "planned", "kept", "rejected"), pa.int64())
        | dict.fromkeys(("reasons", "licences", "languages", "sources"), _COUNTS)
        | dict.fromkeys(("requests", "requests_for_denied_rows", "rows"), pa.int64())
        | {"content": pa.string(), "files": pa.list_(pa.struct(_FILE))}
        | dict.fromkeys(("outcomes_path", "outcomes_sha256", "options"), pa.string())
        | {"committed_at": _TIME}
    ),
    "annotations": pa.schema(dict.fromkeys(("row_id", "name", "value", "tool"), pa.string()) | {"at": _TIME}),
    "revocations": pa.schema(
        {"row_id": pa.string(), "generation": pa.int32()}
        | dict.fromkeys(("reason", "evidence", "requested_by"), pa.string())
        | {"at": _TIME}
    ),
    "shards": pa.schema({"unit_id": pa.string(), "generation": pa.int32(), "unit_index": pa.int64()} | _FILE),
}
"""Schemas of the tables with a row per unit or fewer. `sources.record` is the whole source as JSON."""

_STATISTICS = {
    "plan": "generation,unit_index",
    "outcomes": "plan_generation,ordinal",
    "samples": "plan_generation,ordinal",
}
"""Columns on which Delta keeps statistics: its log outlives a deletion, so not URLs, names or captions."""

_MANY_FILES = 50
_COMPACT_TO_BYTES = 8 << 20
_KEY = ("kind", "unit_id", "generation")
OUTCOMES = from_arrow_schema(OUTCOME_SCHEMA)
_NOT_OF_SAMPLES = ("state", "stage", "reason", "detail", "http_status", "duplicate_of")


@dataclass(frozen=True)
class CommitRow:
    """One row of `commits`."""

    kind: str
    """plan, unit or dedup."""
    unit_id: str
    generation: int
    attempt: str = ""
    unit_index: int = 0
    planned: int = 0
    kept: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason -> rejected rows."""
    licences: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    requests_for_denied_rows: int = 0
    rows: int = 0
    """Samples in the unit's shards."""
    content: str = ""
    """SHA-256 over their content digests, in order."""
    files: list[dict[str, Any]] = field(default_factory=list)
    """Each shard in each format: its number in the unit from 0, its own rows and content, its paths and hashes."""
    outcomes_path: str = ""
    outcomes_sha256: str = ""
    options: str = ""
    """Of a plan: what it was made with, as JSON."""
    committed_at: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.timezone.utc))


class Catalog:
    """The tables of one output."""

    def __init__(self, spark: SparkSession, path: str | Path) -> None:
        self.spark, self.path = spark, Path(path).resolve()
        self.output = self.path.parent
        self._commits: DeltaTable | None = None
        self._appends = 0
        self.compact_every = 200
        """Transactions on `commits` after which its small files are joined."""

    def exists(self, table: str = "commits") -> bool:
        return (self.path / table / "_delta_log").is_dir()

    def require(self) -> None:
        """Raise `UsageError` unless there is a catalog here."""
        if not self.exists():
            raise UsageError(f"there is no catalog at {self.path}: make one with `licet ingest-images`.")

    def version(self) -> int:
        """Delta version of `commits`."""
        return int(DeltaTable(self._at("commits")).version())

    # Tables with a row per unit or fewer

    def commits(self, *kinds: str, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Commits of these kinds, with these columns or all, by generation and place in the plan.

        Of two for one unit and generation, the first: the second changes nothing.
        """
        found: list[dict[str, Any]] = self.commit_table(*kinds, columns=columns).to_pylist(maps_as_pydicts="strict")
        return found

    def commit_table(self, *kinds: str, columns: Sequence[str] = ()) -> pa.Table:
        """The same as Arrow: a million units fit where a million dicts do not."""
        needed = list(dict.fromkeys((*columns, *_KEY, "unit_index", "committed_at", "attempt")))
        found = self._small("commits", needed if columns else None, pc.field("kind").isin(kinds))
        keys = found.select([*_KEY, "committed_at", "attempt"]).append_column(
            "row", pa.array(range(len(found)), pa.int64())
        )
        keys = keys.sort_by([("committed_at", "ascending"), ("attempt", "ascending")])
        first = keys.group_by(list(_KEY), use_threads=False).aggregate([("row", "first")])["row_first"]
        return _in_plan_order(found.take(first))

    def commit(self, rows: Sequence[CommitRow]) -> None:
        """Append to `commits`, in one transaction: this makes what the rows name visible.

        The table is held open, and its small files are joined now and then: so the thousandth transaction costs what
        the first one did.
        """
        if not self.exists():
            self._write_small("commits", [dict(vars(row)) for row in rows], "append")
            return
        if self._commits is None:
            self._commits = DeltaTable(self._at("commits"))
        content = pa.Table.from_pylist([dict(vars(row)) for row in rows], schema=SCHEMAS["commits"])
        write_deltalake(self._commits, content, mode="append")
        self._appends += 1
        if self._appends % self.compact_every == 0:
            self._compact()

    def plan_options(self) -> dict[str, Any] | None:
        """The options of the last frozen plan, or None when there is none."""
        plans = self.commits("plan", columns=["options"])
        return json.loads(plans[-1]["options"]) if plans else None

    def generations(self) -> list[int]:
        """Generations of the frozen plans."""
        return [plan["generation"] for plan in self.commits("plan", columns=["generation"])]

    def next_generation(self) -> int:
        """One more than the latest generation."""
        return 1 + (pc.max(self._small("commits", ["generation"])["generation"]).as_py() or 0)

    def requests(self) -> tuple[int, int]:
        """Requests that committed attempts sent: all, and those for rows that the policy refused."""
        units = self.commit_table("unit", columns=["requests", "requests_for_denied_rows"])
        return pc.sum(units["requests"]).as_py() or 0, pc.sum(units["requests_for_denied_rows"]).as_py() or 0

    def shard_units(self) -> list[dict[str, Any]]:
        """The commits whose shards count, in plan order: the latest generation of each unit that kept a row."""
        found: list[dict[str, Any]] = self._shard_units().to_pylist(maps_as_pydicts="strict")
        return found

    def _shard_units(self) -> pa.Table:
        units = self.commit_table("unit")
        keys = units.select(["unit_id"]).append_column("row", pa.array(range(len(units)), pa.int64()))
        latest = keys.group_by("unit_id", use_threads=False).aggregate([("row", "last")])["row_last"]
        units = units.take(latest)
        return _in_plan_order(units.filter(pc.greater(units["rows"], 0)))

    def write_sources(self, sources: Iterable[Source], extra: Mapping[str, pa.Schema]) -> None:
        """Bring `sources` up to date; what an earlier plan used stays.

        `extra` has the types of a source's further columns, which `licet.extras.read_schema` finds in `record` again.
        """
        rows = {row["source_id"]: row for row in self._small("sources").to_pylist()}
        for source in sources:
            said = asdict(source)
            types = write_schema(extra[source.id]) if source.id in extra else {}
            record = json.dumps(said | types, ensure_ascii=False)
            known = {name: said[name] for name in SCHEMAS["sources"].names if name in said}
            rows[source.id] = known | {"source_id": source.id, "record": record}
        self._write_small("sources", [rows[id] for id in sorted(rows)], "overwrite")

    def _small(self, table: str, columns: list[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        if not self.exists(table):
            found = SCHEMAS[table].empty_table()
            return found.select(columns) if columns else found
        return DeltaTable(self._at(table)).to_pyarrow_table(columns=columns, filters=where)

    def _write_small(self, table: str, rows: list[dict[str, Any]] | pa.Table, mode: Any) -> None:
        """Append or overwrite in one transaction. None of these tables keeps statistics on text."""
        content = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=SCHEMAS[table])
        off = {"delta.dataSkippingStatsColumns": ""}
        write_deltalake(self._at(table), content, mode=mode, configuration=None if self.exists(table) else off)

    def _at(self, table: str) -> str:
        return str(self.path / table)

    # Tables with a row per URL

    def read(self, table: str) -> DataFrame:
        """A table in Spark, as it is now."""
        return self.spark.read.format("delta").load(self._at(table))

    def append_plan(self, rows: DataFrame) -> None:
        """Append rows to `plan`, in one transaction; they count once a commit names their generation."""
        self._write("plan", rows, "append")

    def remove_plan_rows_from(self, generation: int) -> None:
        """Delete rows of plans that were never frozen."""
        if self.exists("plan"):
            DeltaTable(self._at("plan")).delete(f"generation >= {generation}")

    def current_plan(self) -> DataFrame:
        """Each planned row once: as its latest frozen plan has it."""
        generations = self.generations()
        rows = self.read("plan").where(F.col("generation").isin(generations))
        return rows if len(generations) == 1 else _latest(rows)

    def planned_rows(self) -> int:
        """How many different rows were planned."""
        plans = self.commits("plan", columns=["planned"])
        return plans[0]["planned"] if len(plans) == 1 else self.current_plan().count()

    def current_outcomes(self) -> DataFrame:
        """The state of every planned row: its latest outcome, with the row's place in the plan."""
        listed = self.commits("unit", "dedup", columns=["outcomes_path"])
        place = self.current_plan().select("row_id", F.col("generation").alias("plan_generation"), "ordinal", "line")
        return _latest(self._outcome_files([row["outcomes_path"] for row in listed])).join(place, "row_id")

    def _outcome_files(self, paths: list[str]) -> DataFrame:
        if not paths:
            return self.spark.createDataFrame([], OUTCOMES)
        found = [locate(self.output, path) for path in paths]
        at_urls = [path for path in found if is_url(path)]
        here = [path for path in found if not is_url(path)]
        if at_urls:  # Spark's own reader would need a JAR for each kind of store
            names = self.spark.createDataFrame(pa.table({"path": at_urls}))
            fetched = names.repartition(min(len(at_urls), 1000)).mapInArrow(_fetched_outcomes, OUTCOMES)
            return fetched.union(self._outcome_files(here)) if here else fetched
        try:
            return self.spark.read.schema(OUTCOMES).option("__globPaths__", "false").parquet(*here)
        except AnalysisException as error:
            raise DamagedError(
                f"an outcomes file that the catalog {self.path} lists is missing: restore it. {error.getMessage()}"
            ) from error

    @contextmanager
    def materialised(self) -> Iterator[DataFrame]:
        """Write the derived tables as any Delta reader opens them; inside, the current outcomes are at hand."""
        outcomes = self.current_outcomes().persist()
        try:
            self._write("outcomes", outcomes.sortWithinPartitions("plan_generation", "ordinal"), "overwrite")
            kept = outcomes.where("state = 'kept'").drop(*_NOT_OF_SAMPLES).withColumnRenamed("rule", "decision")
            self._write("samples", kept.sortWithinPartitions("plan_generation", "ordinal"), "overwrite")
            self._write_small("shards", _shards_of(self._shard_units()), "overwrite")
            for table in ("annotations", "revocations"):
                if not self.exists(table):
                    self._write_small(table, [], "append")
            self._compact()
            yield outcomes
        finally:
            outcomes.unpersist()

    def _compact(self) -> None:
        """Join the small files that many commits leave; what the table says stays the same.

        Files of the target size are left alone, so that all the joining of a run is linear in its units.
        """
        commits = self._commits or DeltaTable(self._at("commits"))
        if len(commits.file_uris()) > min(_MANY_FILES, self.compact_every):
            commits.optimize.compact(target_size=_COMPACT_TO_BYTES)

    def _write(self, table: str, rows: DataFrame, mode: str) -> None:
        writer = rows.write.format("delta").mode(mode)
        if not self.exists(table):
            writer = writer.option("delta.dataSkippingStatsColumns", _STATISTICS[table])
        writer.save(self._at(table))


def _in_plan_order(commits: pa.Table) -> pa.Table:
    order = pc.sort_indices(commits, [(name, "ascending") for name in ("generation", "unit_index", "unit_id")])
    return commits.take(order)


def _shards_of(units: pa.Table) -> pa.Table:
    """One row for each file of these units, in their order."""
    files = units["files"].combine_chunks()
    parents = units.take(pc.list_parent_indices(files))
    fields = pa.Table.from_struct_array(pc.list_flatten(files))
    columns = {name: (fields if name in _FILE else parents)[name] for name in SCHEMAS["shards"].names}
    return pa.table(columns, schema=SCHEMAS["shards"])


def _fetched_outcomes(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: the rows of outcomes files at URLs."""
    for batch in batches:
        for url in batch.column("path").to_pylist():
            with opened("", url) as path, pq.ParquetFile(path) as file:
                yield from file.iter_batches(columns=OUTCOME_SCHEMA.names)


def _latest(rows: DataFrame) -> DataFrame:
    """Of each row id, the row of the latest generation."""
    latest = Window.partitionBy("row_id").orderBy(F.desc("generation"))
    return rows.withColumn("rank", F.row_number().over(latest)).where("rank = 1").drop("rank")
