"""Work units as tasks of one Spark job, started from a thread. Reports arrive as files while the job runs.

A result of `collect` arrives only with the last task. So each task puts its report as a file into a folder that driver
and executors share (on the output storage), and the driver takes reports from there.

A task that raises fails, so that Spark tries it again, elsewhere if it can. The last allowed try says `failed` instead:
one bad unit does not stop the others. A unit that kills its process cannot say so, and Spark gives the job up in the
end; its message names the task, so the driver knows the unit, and goes on without it in a further job.
With speculation two tries of a unit may run at once: the first report wins, and a failure counts only without a report.

Knows Spark; knows nothing of the work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark import InheritableThread, SparkContext, TaskContext
from pyspark.sql import SparkSession

from jobs.engines import Failure, Report, Unit, attempt, one_line
from licet.errors import LicetError

_POLL_S = 0.1


class SparkEngine:
    """Runs units on a session's executors; `folder` is on storage that they and the driver share."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._context = spark.sparkContext
        self._folder = folder

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """See `Engine.run`. Raises `LicetError` when Spark gives a job up and no unit is to blame."""
        left = dict(enumerate(units))
        while left:
            job = _Job(self._context, self._folder / uuid.uuid4().hex, list(left.items()))
            failed: dict[int, str] = {}
            for number, said in job.run(work):
                if "report" in said and left.pop(number, None) is not None:
                    yield said["report"]
                elif "failed" in said:
                    failed[number] = said["failed"]
            failed.update(job.fatal())
            for number in failed.keys() & left.keys():
                yield Failure(left.pop(number), failed[number])
            if job.error and len(left) == len(job.units):
                raise LicetError(
                    "Spark gave the units up: run the same command again, it goes on where it stopped "
                    "(--debug shows why)."
                ) from job.error


class _Job:
    """One Spark job of many units, and the folder that its tasks write to."""

    def __init__(self, context: SparkContext, folder: Path, units: list[tuple[int, Unit]]) -> None:
        self._context, self._folder, self.units = context, folder, units
        self._attempts = _attempts(context.master or "local", context.getConf().get("spark.task.maxFailures"))
        self.error: Py4JError | None = None
        """Why Spark gave up, once `run` is through."""

    def fatal(self) -> dict[int, str]:
        """The unit on which Spark gave the job up, if it did: a task that raises is not given up, so one that died."""
        blamed = re.search(r"Task (\d+) in stage [\d.]+ failed (\d+) times", str(self.error or ""))
        if not blamed:
            return {}
        number, _ = self.units[int(blamed.group(1))]
        return {number: f"its process died (Spark gave it up after {blamed.group(2)} tries)"}

    def run(self, work: Callable[[Unit], Report]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(unit's number, `{"report": …}` or `{"failed": …}`) as they come."""
        self._folder.mkdir(parents=True)
        job = InheritableThread(target=self._submit, args=(work,), name="licet-units", daemon=True)
        job.start()
        try:
            ended = False
            while not ended:
                ended = not job.is_alive()  # looked at before the folder, so that the last look comes after the end
                yield from self._take()
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            if job.is_alive():
                self._context.cancelJobGroup(self._folder.name)
                job.join()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _submit(self, work: Callable[[Unit], Report]) -> None:
        self._context.setJobGroup(self._folder.name, f"{len(self.units)} work units", interruptOnCancel=True)
        try:
            spread = self._context.parallelize(self.units, len(self.units))
            spread.foreachPartition(partial(_run_units, work, str(self._folder), self._attempts))
        except Py4JError as error:
            self.error = error

    def _take(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for entry in sorted(os.scandir(self._folder), key=lambda e: e.name):
            if not entry.name.endswith(".json"):
                continue
            content = json.loads(Path(entry.path).read_text(encoding="utf-8"))
            os.unlink(entry.path)
            yield content["unit"], content


def _run_units(
    work: Callable[[Unit], Report], folder: str, attempts: int, numbered: Iterable[tuple[int, Unit]]
) -> None:
    """On an executor: run one partition's units."""
    context = TaskContext.get()
    assert context is not None
    for number, unit in numbered:
        done = attempt(work, unit)
        error = done.exception()
        if error is None:
            _put(folder, {"unit": number, "report": json.loads(done.result())})
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
