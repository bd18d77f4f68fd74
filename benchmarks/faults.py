"""Kill every part of an ingest at every labelled write point, fill its disk, run units twice; then count the rows.

    python -m benchmarks.faults --times 5            all measurements; --only local disk … for some of them

One line per measurement and, last, a JSON object. Each measurement ends with the account of its output (see
`benchmarks.accounts`) and compares every row's outcome and the data set's identity with those of a run that nothing
disturbed. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.accounts import Account, account
from benchmarks.faults_site import Site
from benchmarks.standalone import StandaloneCluster
from jobs.faults import EXECUTOR, POINTS
from jobs.ingest_images import main as ingest
from jobs.options import SparkOptions
from jobs.publish import main as publish
from jobs.session import spark_session

IN_WORKERS = POINTS[2:6]
PLAN_FROZEN = POINTS[1]
IN_DRIVER = (*POINTS[:2], *POINTS[6:9])
IN_PUBLISH = POINTS[9]
ATTEMPTS = 12
"""More than one unit can meet kills in a measurement."""
_RUN_S = 300


@dataclass(frozen=True)
class Measurement:
    """What was done to an ingest how often, and what it lost."""

    name: str
    times: int
    lost: int
    duplicated: int
    unsettled: int
    differs: bool
    """An outcome or the identity is not that of the undisturbed run."""
    seconds: float

    @property
    def line(self) -> str:
        same = "OTHER DATA SET" if self.differs else "same data set"
        return (
            f"{self.name:<62} {self.times:>3} times: {self.lost} lost, {self.duplicated} duplicated, "
            f"{self.unsettled} without one state, {same}, {self.seconds:.0f} s"
        )


class Bench:
    """The list, its undisturbed outcome, and how a command is run here and in a process of its own."""

    def __init__(self, folder: Path, site: Site, times: int) -> None:
        self.folder, self.site, self.times = folder, site, times
        self.armed = Path(os.environ["LICET_KILL_AT"])
        self._n_outputs = 0
        self.expected: Account | None = None
        """Of the undisturbed run."""
        self.undisturbed_kib = 0
        self.last: Account | None = None

    def output(self) -> Path:
        self._n_outputs += 1
        return self.folder / f"out-{self._n_outputs}"

    def flags(self, output: Path, *extra: str) -> list[str]:
        return ["--sources", f"[{self.site.source}]", "--output", str(output), *self.site.flags, *extra]

    def here(self, output: Path, *extra: str) -> tuple[int, str]:
        """Run the ingest in this process, on the warm session: exit code, standard error."""
        told = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(told):
            code = ingest(self.flags(output, *extra))
        return code, told.getvalue()

    def apart(self, module: str, arguments: Sequence[str]) -> int:
        """Run an entry point in a process of its own, with whatever is armed: its exit code."""
        environ = {**os.environ, "LICET_KILL_AT": str(self.armed)}
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_RUN_S, check=False)
        if done.returncode not in (0, -9):
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return done.returncode

    def finish(self, name: str, output: Path, times: int, began: float) -> Measurement:
        """Run the command to its end if need be, publish, and account for every row."""
        code, told = self.here(output, "--engine", "local", "--processes", "2")
        if code:
            raise RuntimeError(f"{name}: the run that should go on ended with {code}: {told}")
        return self.accounted(name, output, times, began)

    def accounted(self, name: str, output: Path, times: int, began: float) -> Measurement:
        with redirect_stdout(io.StringIO()):
            if publish(self.publish_flags(output)):
                raise RuntimeError(f"{name}: {output} cannot be published")
        found = account(output, self.site.n_rows)
        expected = self.expected or found
        differs = (found.identity, found.states) != (expected.identity, expected.states)
        counts = (found.lost, found.duplicated, found.unsettled)
        self.last = found
        return Measurement(name, times, *counts, differs, round(time.monotonic() - began, 1))

    def publish_flags(self, output: Path) -> list[str]:
        return ["--catalog", f"{output}/catalog", "--manifest", f"{output}/manifest.json", *self.site.purpose]


def arm(armed: Path, text: str) -> None:
    """Name a point, in one step, so that nobody reads half a name."""
    whole = armed.with_suffix(".new")
    whole.write_text(text, encoding="utf-8")
    os.replace(whole, armed)


def disarm(armed: Path) -> bool:
    """True if nobody had died there."""
    nobody = armed.exists()
    armed.unlink(missing_ok=True)
    return nobody


@contextmanager
def killing(armed: Path, text: str, times: int) -> Iterator[Callable[[], int]]:
    """While this lasts, whoever gets to the point dies, `times` times in all; call the result for how many did."""
    left = [times]
    over = threading.Event()
    arm(armed, text)

    def watch() -> None:
        while not over.wait(0.02):
            if not armed.exists():
                left[0] -= 1
                if not left[0]:
                    return
                arm(armed, text)

    thread = threading.Thread(target=watch, name="killer", daemon=True)
    thread.start()
    try:
        yield lambda: times - left[0]
    finally:
        over.set()
        thread.join()
        disarm(armed)


def workers(bench: Bench, engine: str) -> Iterator[Measurement]:
    """Python workers of one engine, at each of their points."""
    for point in IN_WORKERS:
        began, output = time.monotonic(), bench.output()
        died = 0
        while died < bench.times:
            with killing(bench.armed, point, bench.times - died) as deaths:
                code, told = bench.here(output, "--engine", engine, "--processes", "2")
                died += deaths()
            if code:
                raise RuntimeError(f"{engine}, {point}: {told}")
            if died < bench.times:
                output = bench.output()
        yield bench.accounted(f"Python worker killed, engine {engine}: {point}", output, died, began)


def drivers(bench: Bench) -> Iterator[Measurement]:
    """The driver at each of its points; the next run goes on from what the killed ones left."""
    for point in IN_DRIVER:
        began, output = time.monotonic(), bench.output()
        died = 0
        found: list[Measurement] = []
        while died < bench.times:
            arm(bench.armed, point)
            died += (
                bench.apart("jobs.ingest_images", bench.flags(output, "--engine", "local", "--processes", "2")) == -9
            )
            if disarm(bench.armed) or point == PLAN_FROZEN:  # the output has passed this point for good
                found.append(bench.finish(point, output, 0, began))
                output = bench.output()
        found.append(bench.finish(point, output, 0, began))
        yield merged(f"driver killed: {point}", found, died)


def publishing(bench: Bench) -> Iterator[Measurement]:
    """`licet publish`, between the manifest's page and its root."""
    began, output = time.monotonic(), bench.output()
    bench.here(output, "--engine", "local", "--processes", "2")
    died = 0
    for _ in range(bench.times):
        arm(bench.armed, IN_PUBLISH)
        died += bench.apart("jobs.publish", bench.publish_flags(output)) == -9
        disarm(bench.armed)
    yield bench.accounted(f"publish killed: {IN_PUBLISH}", output, died, began)


def on_cluster(bench: Bench) -> Iterator[Measurement]:
    """A standalone cluster: JVM executors and Python workers killed, then every slow unit run twice by speculation."""
    environ = {"LICET_KILL_AT": str(bench.armed)}
    conf = {"spark.task.maxFailures": str(ATTEMPTS), "spark.deploy.maxExecutorRetries": "-1"}
    with StandaloneCluster(bench.folder / "cluster", 2, environ) as cluster:
        for who, second in (("JVM executor", f"\n{EXECUTOR}"), ("Python worker", "")):
            for point in IN_WORKERS:
                began, output = time.monotonic(), bench.output()
                with killing(bench.armed, point + second, bench.times) as deaths:
                    submit(cluster, bench.flags(output), conf)
                    died = deaths()
                yield bench.accounted(f"{who} killed, cluster: {point}", output, died, began)
    eager = {"spark.speculation": "true", "spark.speculation.interval": "100ms", "spark.executor.cores": "2"}
    eager |= {"spark.speculation.multiplier": "1.5", "spark.speculation.quantile": "0.25"}
    with StandaloneCluster(bench.folder / "cluster-2", 2, cores=2) as cluster:
        began, twice, found = time.monotonic(), 0, []
        while twice < bench.times:
            output = bench.output()
            bench.site.slow_once()
            submit(cluster, bench.flags(output, "--fetch.timeout_s", "60"), eager)
            twice += bench.site.asked_twice()
            found.append(bench.accounted("speculation", output, twice, began))
    yield merged("units run twice by speculation, cluster", found, twice)


def submit(cluster: StandaloneCluster, flags: Sequence[str], conf: dict[str, str]) -> None:
    done = cluster.submit(["jobs/ingest_images.py", *flags], conf)
    if done.returncode:
        raise RuntimeError(f"spark-submit ended with {done.returncode}: {done.stdout}{done.stderr}")


def full_disk(bench: Bench) -> Iterator[Measurement]:
    """The disk fills while an ingest writes: one sentence, exit code 1, and with room the same command goes on."""
    began, found = time.monotonic(), []
    kib = bench.undisturbed_kib
    for number in range(bench.times):
        with small_disk(bench.folder / f"disk-{number}", kib * (number + 1) // (bench.times + 2)) as disk:
            code, told = bench.here(disk.folder / "out", "--engine", "local", "--processes", "2")
            if code != 1 or not is_one_sentence(told) or "disk is full" not in told:
                raise RuntimeError(f"a full disk ended with {code}: {told}")
            disk.grow()
            found.append(bench.finish("disk", disk.folder / "out", 0, began))
    yield merged("disk full, then room again", found, bench.times)


def is_one_sentence(told: str) -> bool:
    return told.startswith("licet: ") and told.count("\n") == 1


class Disk:
    """A tmpfs that can grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=200m", str(self.folder)], check=True)


def kib_of(folder: Path) -> int:
    """KiB of the whole pages that a folder's files take."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Disk]:
    """A file system of so many KiB; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "licet-faults", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def merged(name: str, found: Sequence[Measurement], times: int) -> Measurement:
    """Several outputs as one measurement."""
    summed = {key: sum(getattr(m, key) for m in found) for key in ("lost", "duplicated", "unsettled")}
    return replace(found[-1], name=name, times=times, differs=any(m.differs for m in found), **summed)


PARTS: dict[str, Callable[[Bench], Iterator[Measurement]]] = {
    "local": lambda bench: workers(bench, "local"),
    "spark": lambda bench: workers(bench, "spark"),
    "ray": lambda bench: workers(bench, "ray"),
    "driver": drivers,
    "publish": publishing,
    "disk": full_disk,
    "cluster": on_cluster,
}


def measure(folder: Path, parts: Sequence[str], times: int) -> Iterator[Measurement]:
    """Run these parts on one small list and one warm session."""
    with Site(folder / "site") as site:
        os.environ.setdefault("LICET_KILL_AT", str(folder / "kill-at"))  # a session that runs already looks there
        bench = Bench(folder, site, times)
        with spark_session("licet faults", SparkOptions(master=f"local[2,{ATTEMPTS}]")):
            output = bench.output()
            yield bench.finish("undisturbed", output, 0, time.monotonic())
            bench.expected, bench.undisturbed_kib = bench.last, kib_of(output)
            for part in parts:
                yield from PARTS[part](bench)


def summary(found: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "faults": sum(m.times for m in found),
        "rows_lost": sum(m.lost for m in found),
        "rows_duplicated": sum(m.duplicated for m in found),
        "rows_without_one_state": sum(m.unsettled for m in found),
        "other_data_sets": sum(m.differs for m in found),
        "fewest_times": min((m.times for m in found if m.name != "undisturbed"), default=0),
        "measurements": [asdict(m) for m in found],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=5, help="how often each fault happens, at least")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some of the measurements")
    options = parser.parse_args(argv)
    found = []
    with tempfile.TemporaryDirectory(prefix="licet-faults-") as folder:
        for measurement in measure(Path(folder), options.only, options.times):
            found.append(measurement)
            sys.stdout.write(measurement.line + "\n")
            sys.stdout.flush()
    figures = summary(found)
    sys.stdout.write(json.dumps(figures) + "\n")
    bad = ("rows_lost", "rows_duplicated", "rows_without_one_state", "other_data_sets")
    return int(any(figures[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
