"""Work units as tasks of one Spark job, started from a thread. Reports arrive as files while the job runs.

A result of `collect` arrives only with the last task. So each task puts its report as a file into a folder that driver
and executors share (on the output storage), and the driver takes reports from there. Spark tries a task again when its
process dies or it raises; the last attempt reports the failure instead, so that one bad unit does not stop the others.

Knows Spark; knows nothing of the work.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import InheritableThread, TaskContext
from pyspark.sql import SparkSession

from jobs.engines import Failure, Report, Unit, one_line
from licet.errors import LicetError

_POLL_S = 0.1


class SparkEngine:
    """Runs units on a session's executors; `folder` is on storage that they and the driver share."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._context = spark.sparkContext
        self._folder = folder / uuid.uuid4().hex

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """See `Engine.run`. Raises `LicetError` when Spark gives the job up."""
        if not units:
            return
        self._folder.mkdir(parents=True)
        errors: list[Py4JError] = []
        job = InheritableThread(target=self._run_job, args=(work, units, errors), name="licet-units", daemon=True)
        job.start()
        try:
            ended = False
            while not ended:
                ended = not job.is_alive()  # looked at before the folder, so that the last look comes after the end
                yield from self._take(units)
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            if job.is_alive():
                self._context.cancelJobGroup(self._folder.name)
                job.join()
            shutil.rmtree(self._folder, ignore_errors=True)
        if errors:
            raise LicetError(
                "Spark gave the units up: run the same command again, it goes on where it stopped (--debug shows why)."
            ) from errors[0]

    def _run_job(self, work: Callable[[Unit], Report], units: Sequence[Unit], errors: list[Py4JError]) -> None:
        self._context.setJobGroup(self._folder.name, f"{len(units)} work units")
        attempts = _attempts(self._context.master or "local", self._context.getConf().get("spark.task.maxFailures"))
        numbered = self._context.parallelize(list(enumerate(units)), len(units))
        try:
            numbered.foreachPartition(partial(_run_units, work, str(self._folder), attempts))
        except Py4JError as error:
            errors.append(error)

    def _take(self, units: Sequence[Unit]) -> Iterator[Report | Failure]:
        for entry in sorted(os.scandir(self._folder), key=lambda e: e.name):
            if not entry.name.endswith(".json"):
                continue
            content = json.loads(Path(entry.path).read_text(encoding="utf-8"))
            os.unlink(entry.path)
            if "failed" in content:
                yield Failure(units[content["unit"]], content["failed"])
            else:
                yield content["report"]


def _run_units(
    work: Callable[[Unit], Report], folder: str, attempts: int, numbered: Iterable[tuple[int, Unit]]
) -> None:
    """On an executor: run one partition's units."""
    context = TaskContext.get()
    assert context is not None
    for number, unit in numbered:
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(work, unit)
        error = done.exception()
        if error is None:
            _put(folder, {"unit": number, "report": done.result()})
        elif context.attemptNumber() + 1 < attempts:
            raise error
        else:
            _put(folder, {"unit": number, "failed": one_line(error)})


def _put(folder: str, content: dict[str, object]) -> None:
    """A whole file or none, under a name of its own."""
    name = uuid.uuid4().hex
    partial_file = Path(folder) / f"{name}.partial"
    with open(partial_file, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial_file, partial_file.with_suffix(".json"))


def _attempts(master: str, max_failures: str | None) -> int:
    """How often Spark tries a task: `local[N,F]` says F, plain `local[N]` means once, clusters 4 by default."""
    if master.startswith("local"):
        return int(master.rstrip("]").split(",")[1]) if "," in master else 1
    return int(max_failures or 4)
