"""Turn lists of image URLs into shards, and a catalog that accounts for every row.

    licet ingest-images --sources '[photos.yaml]' --output OUT --policy.purpose commercial-training

Run again with the same flags it goes on where it stopped. Exit code 1 when a unit failed for good.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from jobs.images.decoding.options import DecoderOptions
from jobs.images.dedup_options import DedupOptions
from jobs.images.options import ImageOptions
from jobs.images.shards_out import ShardLimits
from jobs.options import (
    EngineName,
    PlanMode,
    PolicyOptions,
    RayOptions,
    Retry,
    SparkOptions,
    local_folder,
)
from jobs.progress.options import ProgressOptions
from jobs.rights.options import RightsOptions
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
    formats: list[ShardFormat] = ["tfrecord", "lmdb", "webdataset", "parquet"],  # noqa: B006 - read only
    rows_per_unit: int = 1000,
    engine: EngineName = "spark",
    processes: int = 0,
    plan: PlanMode = "frozen",
    retry: Retry = "nothing",
    dry_run: bool = False,
    shards_url: str = "",
    shards: ShardLimits = ShardLimits(),  # noqa: B008 - frozen
    unit_deadline_s: float = 3600.0,
    dedup: DedupOptions = DedupOptions(),  # noqa: B008 - frozen
    rights: RightsOptions = RightsOptions(),  # noqa: B008 - frozen
    decoder: DecoderOptions = DecoderOptions(),  # noqa: B008 - frozen
    fetch: FetchOptions = FetchOptions(),  # noqa: B008 - frozen
    image: ImageOptions = ImageOptions(),  # noqa: B008 - frozen
    spark: SparkOptions = SparkOptions(),  # noqa: B008 - frozen
    progress: ProgressOptions = ProgressOptions(),  # noqa: B008 - frozen
    ray: RayOptions = RayOptions(),  # noqa: B008 - frozen
) -> int:
    """Fetch the images of lists of URLs, as far as their licences allow, into shards and a catalog.

    Args:
        sources: YAML files that describe the sources (see configs/sources).
        output: Folder for `catalog/`, `shards/` and `ingest.json`; shared by all machines of a cluster.
        policy: What the data is for.
        formats: Shard formats to write, each with the same samples; `files` is a folder of images for other tools.
        rows_per_unit: About so many rows are a work unit, and one shard in each format unless `shards` says less.
        engine: What runs the units: tasks of Spark, processes of this machine, or tasks of Ray.
        processes: Processes of the local engine, or cores of a Ray that starts here; 0 for one on each core.
        plan: `frozen` goes on with the plan in the output; `extend` adds the rows that are new in the lists; `new` also
            plans again the rows that changed options concern.
        retry: `transient` plans again the rows that failed for a reason that may have passed.
        dry_run: Freeze the plan, tell how large it is, and fetch nothing.
        shards_url: Store for shards and outcomes, such as s3://bucket/folder; below the output when empty.
        shards: When a unit's samples go on in another shard.
        unit_deadline_s: Rows that a unit has not fetched after so many seconds are rejected, and may be tried again.
        dedup: Which rows count as copies of one another.
        rights: How sites are asked about their wishes; which ones bind is said in the sources' YAML.
        decoder: What decoding one image may cost, in a process of its own.
        fetch: How URLs are requested.
        image: What is stored of an image.
        spark: The Spark that is started when none is given.
        progress: What is shown of the run, while it runs and at its end.
        ray: The Ray that the engine `ray` uses.
    """
    from jobs.images.ingest import Summary, ingest, write_summary
    from jobs.images.job import Job, title_of
    from jobs.images.lists.find import find_lists
    from jobs.progress.live import LiveProgress
    from jobs.progress.summary import summary_table
    from jobs.report.run.write import write_run_report
    from jobs.session import spark_session

    paths = [sources] if isinstance(sources, str) else sources
    if not paths or not formats or rows_per_unit < 1:
        raise UsageError("ingest-images needs at least one source, one format and one row in a unit.")
    policy.policy()  # a rule that does not exist is told now
    loaded = dict(zip(paths, load_sources(paths), strict=True))
    for path, source in loaded.items():
        if source.kind not in ("images", "captions"):
            raise UsageError(f"{path}: ingest-images reads sources of kind images, found {source.kind}.")
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
        ray=ray,
        plan=plan,
        retry=retry,
        dry_run=dry_run,
        shards_url=shards_url,
        limits=shards,
        unit_deadline_s=unit_deadline_s,
        rights=rights,
        decoder=decoder,
        dedup=dedup,
    )
    summary = Summary()
    began = time.monotonic()
    title = title_of(job)
    live = LiveProgress(job.output, progress, title)
    with spark_session("licet ingest-images", spark) as session:
        summary.seconds["start"] = round(time.monotonic() - began, 3)
        try:
            with live:
                ingest(session, job, live, summary)
        finally:
            if summary.rows_in:
                state = "done" if sys.exc_info()[0] is None else "failed"
                with summary.timed("report"):
                    write_run_report(job.output, state, title, asdict(summary), progress.thumbnails)
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
