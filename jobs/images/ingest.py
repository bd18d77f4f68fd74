"""The driver's half of `ingest-images`: freeze the plan, run its units, commit what they report, merge duplicates.

The driver holds unit ids and reports, never rows: its memory does not grow with the number of URLs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession

from jobs.catalog import Catalog, CommitRow
from jobs.commit import Committer, only_writer, sweep
from jobs.engines import Engine, Failure
from jobs.engines.local import LocalEngine
from jobs.engines.spark import SparkEngine
from jobs.images.duplicates import reject_duplicates
from jobs.images.options import ImageOptions
from jobs.images.plan import freeze_plan, plan_options, require_same, work_units
from jobs.images.read import Lists, digests_of, read_sources
from jobs.images.records import WorkUnit
from jobs.images.unit import UnitSpec, run_unit
from jobs.layout import CATALOG, REPORTS
from jobs.options import EngineName, PlanMode, PolicyOptions
from jobs.web.options import FetchOptions
from licet.errors import LicetError
from licet.manifest import write_durably
from licet.shards import ShardFormat
from licet.sources import Source


class Progress(Protocol):
    """Who is told how far it is."""

    def say(self, line: str) -> None:
        """Something happened."""

    def begin(self, units: int) -> None:
        """So many units are to be run."""

    def advance(self, rows: int) -> None:
        """One unit of so many rows is done."""


@dataclass
class Summary:
    """What an ingest came to. Counts are of the whole output; requests, units and seconds of this run as well."""

    rows_in: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason -> rows."""
    pending: int = 0
    """Planned rows without an outcome: their units failed."""
    requests: int = 0
    requests_this_run: int = 0
    requests_for_denied_rows: int = 0
    units: int = 0
    """Units that this run finished."""
    failed_units: dict[str, str] = field(default_factory=dict)
    """Unit id -> its last error."""
    engine: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step takes."""
        began = time.monotonic()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 3)


@dataclass(frozen=True)
class Job:
    """What is asked of one ingest."""

    sources: Sequence[Source]
    lists: Lists
    output: Path
    policy: PolicyOptions
    fetch: FetchOptions
    image: ImageOptions
    formats: tuple[ShardFormat, ...]
    rows_per_unit: int
    engine: EngineName
    processes: int
    """Of the local engine."""
    plan: PlanMode


def ingest(spark: SparkSession, job: Job, progress: Progress, summary: Summary) -> None:
    """Run a job to its end and fill the summary.

    Raises `LicetError` when another run writes to the output or units failed for good, `MismatchError` when the
    output's plan was frozen with other options; what the finished units made is kept in every case.
    """
    summary.engine = job.engine
    with only_writer(job.output):
        catalog = Catalog(spark, job.output / CATALOG)
        with summary.timed("plan"):
            _plan(catalog, job, progress)
            units = work_units(catalog)
        with summary.timed("units"):
            _run_units(catalog, job, units, progress, summary)
        with summary.timed("duplicates"):
            dropped = reject_duplicates(catalog, job.policy.policy())
            if dropped:
                progress.say(f"{dropped} rows repeat an earlier row's bytes")
        with summary.timed("tables"):
            with catalog.materialised() as outcomes:
                _count(catalog, outcomes, summary)
            sweep(catalog)
    if summary.failed_units:
        named = "; ".join(f"{unit_id}: {error}" for unit_id, error in list(summary.failed_units.items())[:5])
        raise LicetError(
            f"{len(summary.failed_units)} of {len(units)} units failed for good ({named}). The others are kept: "
            "run the same command again for these."
        )


def _plan(catalog: Catalog, job: Job, progress: Progress) -> None:
    """Freeze a plan, or find the frozen one."""
    digests = digests_of(catalog.spark, job.lists)
    asked = plan_options(job.sources, digests, job.policy, job.fetch, job.image, job.formats, job.rows_per_unit)
    stored = catalog.plan_options() if catalog.exists() else None
    if stored is not None and job.plan == "frozen":
        require_same(stored, asked)
        progress.say("going on with the plan that is frozen here")
        return
    with read_sources(catalog.spark, job.lists) as rows:
        freeze_plan(catalog, rows, asked, job.sources)


def _run_units(catalog: Catalog, job: Job, units: Sequence[WorkUnit], progress: Progress, summary: Summary) -> None:
    spec = UnitSpec(str(catalog.output), job.formats, job.policy.policy(), job.fetch, job.image)
    progress.say(f"{sum(unit.planned for unit in units)} rows to do, in {len(units)} units")
    progress.begin(len(units))
    with Committer(catalog) as committer:
        for done in _engine(catalog, job).run(partial(run_unit, spec=spec), units):
            if isinstance(done, Failure):
                summary.failed_units[done.unit.unit_id] = done.error
                progress.say(f"unit {done.unit.unit_id} failed for good: {done.error}")
                continue
            row = CommitRow(**done)
            committer.add(row)
            summary.units += 1
            summary.requests_this_run += row.requests
            progress.advance(row.planned)


def _engine(catalog: Catalog, job: Job) -> Engine:
    if job.engine == "local":
        return LocalEngine(job.processes or os.cpu_count() or 1)
    return SparkEngine(catalog.spark, catalog.output / REPORTS)


def _count(catalog: Catalog, outcomes: DataFrame, summary: Summary) -> None:
    counts = {(row.state, row.reason): row["count"] for row in outcomes.groupBy("state", "reason").count().collect()}
    summary.kept = sum(n for (state, _), n in counts.items() if state == "kept")
    summary.rejected = {reason: n for (state, reason), n in sorted(counts.items()) if state == "rejected"}
    summary.rows_in = catalog.planned_rows()
    summary.pending = summary.rows_in - summary.kept - sum(summary.rejected.values())
    summary.requests, summary.requests_for_denied_rows = catalog.requests()


def write_summary(path: Path, summary: Summary) -> None:
    """Write the figures as JSON, whole or not at all."""
    write_durably(path, (json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n").encode())
