"""The driver's half of `ingest-images`: freeze the plan, run its units, commit what they report, merge duplicates.

The driver holds unit ids and reports, never rows: its memory does not grow with the number of URLs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession

import jobs
import licet
from jobs.catalog import Catalog, CommitRow
from jobs.commit import Committer, only_writer, sweep
from jobs.engines import Engine, Failure
from jobs.engines.local import LocalEngine
from jobs.engines.ray_engine import RayEngine
from jobs.engines.spark import SparkEngine
from jobs.images.duplicates import reject_duplicates
from jobs.images.job import Job
from jobs.images.lists.read import read_sources
from jobs.images.lists.scan import scan_lists
from jobs.images.plan import (
    figures_of,
    freeze_plan,
    freeze_retry,
    plan_options,
    require_extension,
    require_same,
    work_units,
)
from jobs.images.records import WorkUnit
from jobs.images.unit import run_unit
from jobs.layout import CATALOG, REPORTS
from licet.errors import LicetError
from licet.manifest import write_durably


class Progress(Protocol):
    """Who is told how far it is."""

    def say(self, line: str) -> None:
        """Something happened."""

    def begin(self, units: int, rows: int) -> None:
        """So many units of so many rows are to be run."""

    def advance(self, report: Mapping[str, Any]) -> None:
        """One unit is done: its report."""

    def failed(self, unit_id: str, error: str) -> None:
        """One unit failed for good."""

    def end(self, state: str = "done") -> None:
        """No unit follows."""


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
        if job.dry_run:
            _tell_plan(catalog, job, progress, summary)
            return
        with summary.timed("plan"):
            units = work_units(catalog)
        with summary.timed("units"):
            _run_units(catalog, job, units, progress, summary)
        with summary.timed("duplicates"):
            dropped = reject_duplicates(catalog, job.policy.policy(), job.dedup, job.unit_spec().target)
            if dropped:
                progress.say(f"{dropped} rows repeat an earlier row")
        with summary.timed("tables"):
            with catalog.materialised() as outcomes:
                _count(catalog, outcomes, summary)
            sweep(catalog, job.unit_spec().target)
    if summary.failed_units:
        named = "; ".join(f"{unit_id}: {error}" for unit_id, error in list(summary.failed_units.items())[:5])
        raise LicetError(
            f"{len(summary.failed_units)} of {len(units)} units failed for good ({named}). The others are kept: "
            "run the same command again for these."
        )


def _plan(catalog: Catalog, job: Job, progress: Progress) -> None:
    """Freeze a plan, or find the frozen one."""
    scan = scan_lists(catalog.spark, job.lists)
    asked = plan_options(job, scan.digests)
    stored = catalog.plan_options() if catalog.exists() else None
    if stored is not None and job.plan == "frozen":
        require_same(stored, asked)
    elif stored is not None and job.plan == "extend":
        require_extension(stored, asked)
    if stored is None or job.plan == "new" or stored != asked:
        with read_sources(catalog.spark, scan) as rows:
            planned = freeze_plan(catalog, rows, asked, job.sources, job.lists.extra)
        progress.say(f"{planned} rows planned" if stored is None else f"{planned} rows planned anew")
    else:
        progress.say("going on with the plan that is frozen here")
    if stored is not None and job.retry == "transient":
        progress.say(f"{freeze_retry(catalog, asked)} rows that failed for a passing reason are planned again")


def _tell_plan(catalog: Catalog, job: Job, progress: Progress, summary: Summary) -> None:
    """What a dry run says, on the screen and in `plan.json`."""
    figures: dict[str, float] = {**figures_of(catalog), "seconds": summary.seconds["plan"]}
    figures["rows_per_s"] = round(figures["rows"] / max(figures["seconds"], 0.001), 1)
    write_durably(job.output / "plan.json", (json.dumps(figures, indent=2) + "\n").encode())
    progress.say(
        "planned {rows:,} rows in {units:,} units, about {hosts:,} hosts, {seconds} s ({rows_per_s:,} rows/s); "
        "nothing is fetched in a dry run".format(**figures)
    )


def _run_units(catalog: Catalog, job: Job, units: Sequence[WorkUnit], progress: Progress, summary: Summary) -> None:
    spec = job.unit_spec()
    rows = sum(unit.planned for unit in units)
    progress.say(f"{rows} rows to do, in {len(units)} units")
    progress.begin(len(units), rows)
    with Committer(catalog) as committer:
        for done in _engine(catalog, job).run(partial(run_unit, spec=spec), units):
            if isinstance(done, Failure):
                summary.failed_units[done.unit.unit_id] = done.error
                progress.failed(done.unit.unit_id, done.error)
                continue
            row = CommitRow(**{name: value for name, value in done.items() if name in CommitRow.__dataclass_fields__})
            committer.add(row)
            summary.units += 1
            summary.requests_this_run += row.requests
            progress.advance(done)
    progress.end()


def _engine(catalog: Catalog, job: Job) -> Engine:
    if job.engine == "local":
        return LocalEngine(job.processes or os.cpu_count() or 1)
    if job.engine == "ray":
        packages = [str(Path(package.__file__).parent) for package in (jobs, licet) if package.__file__]
        return RayEngine(job.ray.address, job.processes, modules=packages if job.ray.ship_code else ())
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
