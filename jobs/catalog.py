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
output can be moved. Only the driver writes here. Tables with a row per URL go through Spark, never through the driver;
tables with a row per unit go through `deltalake`, in milliseconds and without waiting for a free executor. This file
does not know what a unit does.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.window import Window

from licet.errors import DamagedError, UsageError
from licet.records import OUTCOME_SCHEMA
from licet.sources import Source

_TIME = pa.timestamp("us", "UTC")
_COUNTS = pa.map_(pa.string(), pa.int64())
_FILE = {"format": pa.string(), "path": pa.string(), "sha256": pa.string(), "n_bytes": pa.int64()}
_FILE |= {"index_path": pa.string(), "index_sha256": pa.string()}
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
        | dict.fromkeys(("first_ordinal", "planned", "kept", "rejected"), pa.int64())
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
    "shards": pa.schema(
        {"unit_id": pa.string(), "generation": pa.int32(), "first_ordinal": pa.int64(), "rows": pa.int64()}
        | {"content": pa.string()}
        | _FILE
    ),
}
"""Schemas of the tables with a row per unit or fewer. `sources.record` is the whole source as JSON."""

_STATISTICS = {
    "plan": "generation,ordinal",
    "outcomes": "plan_generation,ordinal",
    "samples": "plan_generation,ordinal",
}
"""Columns on which Delta keeps statistics: its log outlives a deletion, so not URLs, names or captions."""

_MANY_FILES = 50
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
    first_ordinal: int = 0
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
        needed = dict.fromkeys((*columns, "kind", "unit_id", "generation", "first_ordinal", "committed_at", "attempt"))
        table = self._small("commits", list(needed) if columns else None)
        rows = sorted(table.to_pylist(maps_as_pydicts="strict"), key=lambda r: (r["committed_at"], r["attempt"]))
        first = {(r["kind"], r["unit_id"], r["generation"]): r for r in reversed(rows) if r["kind"] in kinds}
        return sorted(first.values(), key=lambda r: (r["generation"], r["first_ordinal"], r["unit_id"]))

    def commit(self, rows: Sequence[CommitRow]) -> None:
        """Append to `commits`, in one transaction: this makes what the rows name visible."""
        self._write_small("commits", [asdict(row) for row in rows], "append")

    def plan_options(self) -> dict[str, Any] | None:
        """The options of the last frozen plan, or None when there is none."""
        plans = self.commits("plan", columns=["options"])
        return json.loads(plans[-1]["options"]) if plans else None

    def generations(self) -> list[int]:
        """Generations of the frozen plans."""
        return [plan["generation"] for plan in self.commits("plan", columns=["generation"])]

    def next_generation(self) -> int:
        """One more than the latest generation."""
        return 1 + max(self._small("commits", ["generation"]).column("generation").to_pylist(), default=0)

    def requests(self) -> tuple[int, int]:
        """Requests that committed attempts sent: all, and those for rows that the policy refused."""
        units = self.commits("unit", columns=["requests", "requests_for_denied_rows"])
        return sum(u["requests"] for u in units), sum(u["requests_for_denied_rows"] for u in units)

    def shard_units(self) -> list[dict[str, Any]]:
        """The commits whose shards count, in plan order: the latest generation of each unit that kept a row."""
        latest = {unit["unit_id"]: unit for unit in self.commits("unit")}
        return sorted(
            (u for u in latest.values() if u["rows"]), key=lambda u: (u["generation"], u["first_ordinal"], u["unit_id"])
        )

    def write_sources(self, sources: Iterable[Source]) -> None:
        """Bring `sources` up to date; what an earlier plan used stays."""
        rows = {row["source_id"]: row for row in self._small("sources").to_pylist()}
        for source in sources:
            said = asdict(source)
            record = json.dumps(said, ensure_ascii=False)
            known = {name: said[name] for name in SCHEMAS["sources"].names if name in said}
            rows[source.id] = known | {"source_id": source.id, "record": record}
        self._write_small("sources", [rows[id] for id in sorted(rows)], "overwrite")

    def _small(self, table: str, columns: list[str] | None = None) -> pa.Table:
        if not self.exists(table):
            return SCHEMAS[table].empty_table()
        return DeltaTable(self._at(table)).to_pyarrow_table(columns=columns)

    def _write_small(self, table: str, rows: list[dict[str, Any]], mode: Any) -> None:
        """Append or overwrite in one transaction. None of these tables keeps statistics on text."""
        content = pa.Table.from_pylist(rows, schema=SCHEMAS[table])
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
        found = [str(self.output / path) for path in paths]
        try:
            return self.spark.read.schema(OUTCOMES).option("__globPaths__", "false").parquet(*found)
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
            shards = [{**unit, **file} for unit in self.shard_units() for file in unit["files"]]
            self._write_small("shards", shards, "overwrite")
            for table in ("annotations", "revocations"):
                if not self.exists(table):
                    self._write_small(table, [], "append")
            self._compact()
            yield outcomes
        finally:
            outcomes.unpersist()

    def _compact(self) -> None:
        """Join the small files that many commits leave; what the table says stays the same."""
        commits = DeltaTable(self._at("commits"))
        if len(commits.file_uris()) > _MANY_FILES:
            commits.optimize.compact()

    def _write(self, table: str, rows: DataFrame, mode: str) -> None:
        writer = rows.write.format("delta").mode(mode)
        if not self.exists(table):
            writer = writer.option("delta.dataSkippingStatsColumns", _STATISTICS[table])
        writer.save(self._at(table))


def _latest(rows: DataFrame) -> DataFrame:
    """Of each row id, the row of the latest generation."""
    latest = Window.partitionBy("row_id").orderBy(F.desc("generation"))
    return rows.withColumn("rank", F.row_number().over(latest)).where("rank = 1").drop("rank")
