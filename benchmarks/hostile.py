"""An ingest of a list in which one row in twenty means harm: every row's reason, every unit's end, who was led inwards.

    python -m benchmarks.hostile                 2,000 rows, about four minutes
    python -m benchmarks.hostile --rows 400

Three measurements. `mixed`: more than forty kinds of hostile rows (`benchmarks.hostile_site`) among good photos on
shared hosts; all opt-out protocols are asked, address checks and decoder isolation are on. `drowned` and `repeated`:
one unit of nothing but dripping rows, and one of a slow picture again and again, which their deadline has to end. Units
are timed from outside, by their folders; memory is the sum over the command's process tree, ten times a second. Prints
a line for each measurement and, last, a JSON object; exit code 1 when a row, a unit or a connection is not as it ought
to be.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from deltalake import DeltaTable

from benchmarks.hostile_site import GOOD, KEPT, NETWORKS, HostileSite, Listed
from jobs.layout import SHARDS

_LOOK_S = 0.1
_RUN_S = 900
_MB = 1 << 20
UNIT_DEADLINE_S = 10.0
"""Of the units that would take longer."""
SLACK_S = 5.0
"""What a unit may take after its deadline to end what is being decoded and write what it has."""
_FETCH = {
    "timeout_s": 2, "connect_timeout_s": 2, "deadline_s": 5, "min_rate_window_s": 2, "retries": 1, "backoff_s": 0.1,
    "max_wait_s": 1, "max_bytes": 5_000_000, "host_failures": 0,
}  # fmt: skip


@dataclass
class Watch:
    """What is seen of a command from outside, while it runs."""

    peak_mb: float = 0.0
    """Resident memory of all its processes together; pages that they share count for each."""
    peak_without_jvm_mb: float = 0.0
    peak_processes: int = 0
    units: dict[str, list[float]] = field(default_factory=dict)
    """Unit id -> when its folder was first seen, and when its outcomes were."""

    @property
    def unit_seconds(self) -> list[float]:
        """Of each unit that ended."""
        return sorted(times[1] - times[0] for times in self.units.values() if len(times) == 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05, help="of rows that are hostile")
    parser.add_argument("--unit-rows", type=int, default=200, help="of `drowned` and `repeated`; 0 leaves them out")
    parser.add_argument("--work", type=Path, help="where the output stays; otherwise it is removed")
    parser.add_argument("--json", type=Path, help="where the figures are written as well")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="licet-hostile-") as temporary:
        work = args.work or Path(temporary)
        figures = mixed(work / "mixed", args.rows, args.share)
        for name, measure in ONE_UNIT.items():
            if args.unit_rows:
                figures |= measure(work / name, args.unit_rows)
    wrong = unexpected(figures)
    text = json.dumps(figures | {"wrong": wrong})
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    say(text)
    return 1 if wrong else 0


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def mixed(work: Path, n_rows: int, share: float) -> dict[str, Any]:
    """Good and hostile rows on the same hosts."""
    deadline_s = 60.0
    with HostileSite(n_rows, share) as site:
        watch, seconds = ingest(work, [row.url for row in site.rows], 100, deadline_s)
        intrusions = site.intrusions
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for outcome in outcomes(work):
        found[outcome["source_url"]].append(outcome)
    hostile = [row for row in site.rows if row.kind != GOOD]
    good = [row for row in site.rows if row.kind == GOOD]
    table = {kind: reasons(kind, hostile, found) for kind in dict.fromkeys(row.kind for row in hostile)}
    for kind, ended in table.items():
        right = sum(n for reason, n in ended.items() if reason in site.kinds[kind].ends)
        said = ", ".join(f"{n} {reason}" for reason, n in ended.items())
        say(f"{kind:<52} {right} of {sum(ended.values())} as expected: {said}")
    figures: dict[str, Any] = {
        "rows": len(site.rows),
        "hostile_rows": len(hostile),
        "kinds": len(table),
        "rows_with_one_state": sum(settled(found[row.url]) for row in site.rows),
        "hostile_rows_with_their_reason": sum(as_expected(row, found[row.url]) for row in hostile),
        "good_rows": len(good),
        "good_rows_kept": sum(as_expected(row, found[row.url]) for row in good),
        "forbidden_connections": intrusions,
        "units": len(watch.unit_seconds),
        "longest_deadline_s": deadline_s,
        "longest_unit_s": round(watch.unit_seconds[-1], 1),
        "seconds": round(seconds, 1),
        "peak_mb": round(watch.peak_mb),
        "peak_without_jvm_mb": round(watch.peak_without_jvm_mb),
        "peak_processes": watch.peak_processes,
        "reasons": table,
    }
    say("{rows} rows, {hostile_rows} of them hostile in {kinds} ways: {seconds} s".format(**figures))
    say("rows in exactly one terminal state: {rows_with_one_state} of {rows}".format(**figures))
    say("hostile rows with their reason: {hostile_rows_with_their_reason} of {hostile_rows}".format(**figures))
    say("good rows kept, with their own bytes: {good_rows_kept} of {good_rows}".format(**figures))
    say("connections to forbidden addresses: {forbidden_connections}".format(**figures))
    say("longest of {units} units: {longest_unit_s} s, deadline {longest_deadline_s:g} s".format(**figures))
    say(
        "peak memory of all processes: {peak_mb} MB, {peak_without_jvm_mb} MB without the JVM, "
        "{peak_processes} processes at most".format(**figures)
    )
    return figures


def one_unit(work: Path, name: str, urls: Sequence[str], end: str) -> dict[str, Any]:
    """A unit whose rows would take many times its deadline. Each of them may come to `end`, or wait in vain."""
    watch, _ = ingest(work, urls, len(urls), UNIT_DEADLINE_S)
    ended = Counter(end_of(outcome) for outcome in outcomes(work))
    figures: dict[str, Any] = {
        f"{name}_rows": len(urls),
        f"{name}_rows_with_their_reason": ended[end] + ended["unit-deadline"],
        f"{name}_deadline_s": UNIT_DEADLINE_S,
        f"{name}_unit_s": round(watch.unit_seconds[-1], 1),
        f"{name}_peak_without_jvm_mb": round(watch.peak_without_jvm_mb),
    }
    figures[f"{name}_reasons"] = dict(ended)
    said = ", ".join(f"{n} {reason}" for reason, n in ended.items())
    say(f"{name}, a unit of {len(urls)} rows: {watch.unit_seconds[-1]:.1f} s, deadline {UNIT_DEADLINE_S:g} s; {said}")
    return figures


def drowned(work: Path, n_rows: int) -> dict[str, Any]:
    """Every row drips."""
    with HostileSite(0, 0) as site:
        return one_unit(work, "drowned", [site.url_of("drip", number) for number in range(n_rows)], "too-slow")


def repeated(work: Path, n_rows: int) -> dict[str, Any]:
    """Every row is the same picture, fetched once, that takes a second or two to decode."""
    with HostileSite(0, 0) as site:
        return one_unit(work, "repeated", [site.url_of("PNG of 9,000 x 9,000 in few bytes", 0)] * n_rows, KEPT)


def unexpected(figures: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    due = {
        "rows_with_one_state": "rows",
        "hostile_rows_with_their_reason": "hostile_rows",
        "good_rows_kept": "good_rows",
    }
    due |= {f"{name}_rows_with_their_reason": f"{name}_rows" for name in ONE_UNIT if f"{name}_rows" in figures}
    wrong = [f"{n}: {figures[n]} of {figures[of]}" for n, of in due.items() if figures[n] != figures[of]]
    if figures["forbidden_connections"]:
        wrong.append(f"forbidden_connections: {figures['forbidden_connections']}")
    for name in ("longest", *ONE_UNIT):
        spent_s, deadline_s = figures.get(f"{name}_unit_s", 0.0), figures.get(f"{name}_deadline_s", 0.0)
        if spent_s > deadline_s + SLACK_S:
            wrong.append(f"{name}_unit_s: {spent_s}, deadline {deadline_s:g}")
    return wrong


def reasons(kind: str, hostile: Sequence[Listed], found: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """How the rows of one kind ended: reason, or `kept` -> rows."""
    return dict(Counter(end_of(outcome) for row in hostile if row.kind == kind for outcome in found[row.url]))


def end_of(outcome: dict[str, Any]) -> str:
    return KEPT if outcome["state"] == "kept" else str(outcome["reason"])


def settled(ended: Sequence[dict[str, Any]]) -> bool:
    """Whether a row is in exactly one terminal state: kept, or rejected with a reason."""
    return len(ended) == 1 and (ended[0]["state"] == "kept" or bool(ended[0]["reason"]))


def as_expected(row: Listed, ended: Sequence[dict[str, Any]]) -> bool:
    """Whether a row came to its end, and a good one with the bytes that are its own."""
    return settled(ended) and end_of(ended[0]) in row.ends and row.sha256 in ("", ended[0]["sha256"])


def outcomes(output: Path) -> list[dict[str, Any]]:
    """Rows of the catalog's outcomes."""
    columns = ["source_url", "state", "reason", "sha256"]
    table = DeltaTable(str(output / "catalog" / "outcomes"))
    found: list[dict[str, Any]] = table.to_pyarrow_table(columns=columns).to_pylist()
    return found


def ingest(output: Path, urls: Sequence[str], rows_per_unit: int, deadline_s: float) -> tuple[Watch, float]:
    """`licet ingest-images` of these URLs, in two processes of its own: what was seen, and how long it took."""
    output.mkdir(parents=True)
    with open(output / "urls.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["url"], *([url] for url in urls)])
    (output / "source.yaml").write_text(
        "id: hostile\ntitle: Hostile rows\nkind: images\nlocation: urls.csv\nformat: csv\nlicence: CC0-1.0\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "jobs.ingest_images", "--sources", f"[{output}/source.yaml]"]
    command += ["--output", str(output), "--policy.purpose", "commercial-training", "--formats", "[webdataset]"]
    command += ["--engine", "local", "--processes", "2", "--rows_per_unit", str(rows_per_unit), "--dedup.mode", "none"]
    command += ["--unit_deadline_s", str(deadline_s), "--image.size_px", "64"]
    command += ["--fetch.allow_networks", f"[{', '.join(NETWORKS)}]"]
    for name, value in _FETCH.items():
        command += [f"--fetch.{name}", str(value)]
    began = time.monotonic()
    log = output / "log"
    with (
        open(log, "wb") as told,
        subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT) as process,
        watching(process.pid, output / SHARDS) as watch,
    ):
        code = process.wait(_RUN_S)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
    return watch, time.monotonic() - began


@contextmanager
def watching(pid: int, shards: Path) -> Iterator[Watch]:
    """Look at a process tree and at the units' folders until the block ends."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            _look_at_memory(watch, pid)
            _look_at_units(watch, shards)
        _look_at_units(watch, shards)

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _look_at_memory(watch: Watch, pid: int) -> None:
    sizes, jvm = [], 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_info().rss)
                jvm += sizes[-1] if process.name() == "java" else 0
    watch.peak_mb = max(watch.peak_mb, sum(sizes) / _MB)
    watch.peak_without_jvm_mb = max(watch.peak_without_jvm_mb, (sum(sizes) - jvm) / _MB)
    watch.peak_processes = max(watch.peak_processes, len(sizes))


def _look_at_units(watch: Watch, shards: Path) -> None:
    now = time.monotonic()
    for folder in shards.iterdir() if shards.is_dir() else ():
        times = watch.units.setdefault(folder.name, [now])
        if len(times) == 1 and any(folder.glob("*.outcomes.parquet")):
            times.append(now)


ONE_UNIT: dict[str, Callable[[Path, int], dict[str, Any]]] = {"drowned": drowned, "repeated": repeated}


if __name__ == "__main__":
    sys.exit(main())
