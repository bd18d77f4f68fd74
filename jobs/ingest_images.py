"""Turn lists of image URLs into shards, and a catalog that accounts for every row.

    licet ingest-images --sources '[photos.yaml]' --output OUT --policy.purpose commercial-training

Run again with the same flags it goes on where it stopped. Exit code 1 when a unit failed for good.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.options import (
    EngineName,
    FetchOptions,
    ImageOptions,
    PlanMode,
    PolicyOptions,
    SparkOptions,
    local_folder,
)
from licet.cli import run_command
from licet.errors import UsageError
from licet.flags import call_with_flags
from licet.shards import FORMATS, ShardFormat
from licet.sources import load_sources

if TYPE_CHECKING:
    from jobs.images.ingest import Summary


def ingest_images(
    sources: list[str] | str,
    output: str,
    policy: PolicyOptions,
    formats: list[ShardFormat] = list(FORMATS),  # noqa: B006 - read only; jsonargparse shows it as the default
    rows_per_unit: int = 1000,
    engine: EngineName = "spark",
    processes: int = 0,
    plan: PlanMode = "frozen",
    fetch: FetchOptions = FetchOptions(),  # noqa: B008 - frozen
    image: ImageOptions = ImageOptions(),  # noqa: B008 - frozen
    spark: SparkOptions = SparkOptions(),  # noqa: B008 - frozen
) -> int:
    """Fetch the images of lists of URLs, as far as their licences allow, into shards and a catalog.

    Args:
        sources: YAML files that describe the sources (see configs/sources).
        output: Folder for `catalog/`, `shards/` and `ingest.json`; shared by all machines of a cluster.
        policy: What the data is for.
        formats: Shard formats to write, each with the same samples.
        rows_per_unit: Rows of a work unit, which is one shard in each format.
        engine: What runs the units: tasks of Spark, or processes of this machine.
        processes: Processes of the local engine; 0 for one on each core.
        plan: `frozen` goes on with the plan in the output; `new` plans again the rows that changed options concern.
        fetch: How URLs are requested.
        image: What is stored of an image.
        spark: The Spark that is started when none is given.
    """
    from jobs.images.ingest import Job, Summary, ingest, write_summary
    from jobs.images.read import find_lists
    from jobs.session import spark_session

    paths = [sources] if isinstance(sources, str) else sources
    if not paths or not formats or rows_per_unit < 1:
        raise UsageError("ingest-images needs at least one source, one format and one row in a unit.")
    policy.policy()  # a rule that does not exist is told now
    loaded = dict(zip(paths, load_sources(paths), strict=True))
    job = Job(
        sources=list(loaded.values()),
        lists=find_lists(loaded),
        output=local_folder(output, "output"),
        policy=policy,
        fetch=fetch,
        image=image,
        formats=tuple(f for f in FORMATS if f in formats),
        rows_per_unit=rows_per_unit,
        engine=engine,
        processes=processes,
        plan=plan,
    )
    summary = Summary()
    began = time.monotonic()
    progress = _Lines()
    with spark_session("licet ingest-images", spark) as session:
        summary.seconds["start"] = round(time.monotonic() - began, 3)
        try:
            ingest(session, job, progress, summary)
        finally:
            progress.end()
            if summary.rows_in:
                summary.seconds["all"] = round(time.monotonic() - began, 3)
                write_summary(job.output / "ingest.json", summary)
                sys.stdout.write(summary_table(summary, job.output))
    return 0


def summary_table(summary: Summary, output: Path) -> str:
    """The figures, for a person."""
    rows = [("rows in", summary.rows_in), ("kept", summary.kept), ("rejected", sum(summary.rejected.values()))]
    rows += [(f"  {reason}", n) for reason, n in summary.rejected.items()]
    rows += [("without outcome", summary.pending)] if summary.pending else []
    rows += [("requests", summary.requests), ("  for denied rows", summary.requests_for_denied_rows)]
    lines = [f"{name:<22}{n:>10,}" for name, n in rows] + [f"{'seconds':<22}{summary.seconds['all']:>10.1f}"]
    return "\n".join([*lines, f"catalog in {output / 'catalog'}", ""])


class _Lines:
    """Progress: a bar on a terminal, a plain line for every twentieth of the units elsewhere."""

    def __init__(self) -> None:
        self._bar = None
        self._units = self._done = self._rows = 0

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def begin(self, units: int) -> None:
        from tqdm import tqdm

        self._units = units
        if sys.stderr.isatty() and units:
            self._bar = tqdm(total=units, unit="unit")

    def advance(self, rows: int) -> None:
        self._done, self._rows = self._done + 1, self._rows + rows
        if self._bar is not None:
            self._bar.update()
        elif self._done * 20 // self._units > (self._done - 1) * 20 // self._units:
            self.say(f"{self._done} of {self._units} units, {self._rows} rows")

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def command(arguments: Sequence[str]) -> int:
    """`licet ingest-images`."""
    return call_with_flags(ingest_images, arguments, "ingest-images")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a shell: `python -m jobs.ingest_images …` or `spark-submit jobs/ingest_images.py …`."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
