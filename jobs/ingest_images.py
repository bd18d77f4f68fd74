"""Turn lists of image URLs into shards, and a catalog that accounts for every row.

    licet ingest-images --sources '[photos.yaml]' --output OUT --policy.purpose commercial-training

Run again with the same flags it goes on where it stopped. Exit code 1 when a unit failed for good.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from jobs.images.options import ImageOptions
from jobs.options import (
    EngineName,
    PlanMode,
    PolicyOptions,
    SparkOptions,
    local_folder,
)
from jobs.web.options import FetchOptions
from licet.cli import run_command
from licet.errors import UsageError
from licet.flags import call_with_flags
from licet.shards import FORMATS, ShardFormat
from licet.sources import load_sources


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
    from jobs.images.progress import ProgressLines, summary_table
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
    progress = ProgressLines()
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


def command(arguments: Sequence[str]) -> int:
    """`licet ingest-images`."""
    return call_with_flags(ingest_images, arguments, "ingest-images")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a shell: `python -m jobs.ingest_images …` or `spark-submit jobs/ingest_images.py …`."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
