"""What a plan costs the driver: its memory for many URLs against a tenth of them, and rows planned per second.

    python -m benchmarks.plan_scale [--small 1000000] [--large 10000000] [--keep FOLDER]

For each size a list of URLs is written (Parquet; 50,000 hosts, one row in fifty repeats an earlier URL), and the
command `licet ingest-images --dry_run true` freezes its plan. While it runs, the resident memory of three things is
looked at, ten times a second: the driver's Python, its JVM (which in local mode does the executors' sorting too), and
the Python workers, which are the executors and not the driver. Peaks are printed, each by itself and the driver's two
together at one moment. Nothing is fetched. The last line is a JSON object; `grown_mb` is what the larger plan took
more of the driver.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HOSTS = 50_000
REPEATED = 50
ROWS_PER_GROUP = 100_000
_LOOK_S = 0.1
_MB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Plan both sizes, one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="where lists and outputs stay; otherwise they are removed")
    arguments = parser.parse_args(argv)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="licet-plan-scale-"))
    try:
        small, large = (plan(folder, rows) for rows in (arguments.small, arguments.large))
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    grown = {f"grown_{name}": round(large[name] - small[name], 1) for name in ("python_mb", "jvm_mb", "driver_mb")}
    figures = {"small": small, "large": large, **grown, "grown_mb": grown["grown_driver_mb"]}
    sys.stdout.write(json.dumps({"benchmark": "plan_scale", **figures, "rows_per_s": large["rows_per_s"]}) + "\n")
    return 0


def plan(folder: Path, n_rows: int) -> dict[str, float]:
    """Freeze the plan of a list of so many rows; what it took."""
    work = folder / str(n_rows)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_list(work / "list.parquet", n_rows)
    (work / "source.yaml").write_text(
        "id: made-up\ntitle: Made-up URLs\nkind: images\nlocation: list.parquet\nformat: parquet\nlicence: CC0-1.0\n"
        "columns: {caption: caption}\n"
    )
    output = work / "out"
    command = [sys.executable, "-m", "jobs.ingest_images", "--sources", f"[{work / 'source.yaml'}]"]
    command += ["--output", str(output), "--policy.purpose", "commercial-training", "--dry_run", "true"]
    began = time.monotonic()
    with open(work / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        peaks = watch(process)
    if process.returncode:
        raise SystemExit(f"the plan of {n_rows} rows failed: {(work / 'log').read_text(errors='replace')[-2000:]}")
    told = json.loads((output / "plan.json").read_text())
    assert told["rows"] == n_rows, told
    figures = {**told, **peaks, "command_s": round(time.monotonic() - began, 1)}
    figures["plan_mb"] = round(sum(file.stat().st_size for file in (output / "catalog").rglob("*.parquet")) / _MB, 1)
    for name, value in figures.items():
        sys.stdout.write(f"{n_rows:>12,} rows  {name:<20}{value:>14,}\n")
    sys.stdout.flush()
    return figures


def write_list(path: Path, n_rows: int) -> None:
    """URLs like those of the web: one in fifty stands there a second time."""
    schema = pa.schema([("url", pa.string()), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, ROWS_PER_GROUP):
            numbers = np.arange(start, min(n_rows, start + ROWS_PER_GROUP), dtype=np.int64)
            numbers[::REPEATED] //= 2
            scattered = numbers * 2_654_435_761 % (1 << 32)
            host = pc.binary_join_element_wise("https://images", pa.array(scattered % HOSTS).cast(pa.string()), "")
            url = pc.binary_join_element_wise(
                host, ".example.org/photos/", pa.array(scattered).cast(pa.string()), "/",
                pa.array(numbers).cast(pa.string()), ".jpg?size=large", "",
            )  # fmt: skip
            caption = pc.binary_join_element_wise("a photo of thing ", pa.array(numbers % 977).cast(pa.string()), "")
            writer.write_table(pa.table({"url": url, "caption": caption}, schema=schema))


def watch(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Peaks of resident memory, in MiB, until the process ends."""
    peaks = dict.fromkeys(("python_mb", "jvm_mb", "driver_mb", "workers_mb"), 0.0)
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            python, jvm, workers = driver.memory_info().rss, 0, 0
            for child in driver.children(recursive=True):
                rss, is_jvm = child.memory_info().rss, child.name() == "java"
                jvm, workers = jvm + rss * is_jvm, workers + rss * (not is_jvm)
        except psutil.NoSuchProcess:
            continue
        for name, rss in zip(peaks, (python, jvm, python + jvm, workers), strict=True):
            peaks[name] = max(peaks[name], round(rss / _MB, 1))
        time.sleep(_LOOK_S)
    return peaks


if __name__ == "__main__":
    sys.exit(main())
