"""Whether an ingest of twice the images takes twice the time: seconds for 5,000 to 40,000 images of one run each.

    python -m benchmarks.growth                                  about seven minutes on two cores
    python -m benchmarks.growth --sizes 500 1000 2000            to try it

Three times are taken of each run: of the whole command; of its step `units`, in which everything is fetched, made and
committed (both from `ingest.json`); and, by the server, of the middle three fifths of the images, in which nothing
starts up and nothing winds down. That steady part has to grow in proportion: a line through nought is fitted to it by
least squares, and the largest relative distance from the line is `worst_deviation`. For the step and the whole the line
has an intercept, their start-up. Per-host limits are lifted, for there is one host; rights, address checks and decoder
isolation are on. The last line is a JSON object; exit code 1 when the deviation is above 15 %.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import corpus
from benchmarks.server import PhotoHost

LIMIT = 0.15
N_FILES = 256
ROWS_PER_UNIT = 500
FIRST, LAST = 0.2, 0.8
"""Shares of the images between which the rate is steady."""


@dataclass(frozen=True)
class Run:
    """One ingest, in seconds."""

    images: int
    whole_s: float
    units_s: float
    steady_s: float
    """Between the first and the last fifth of the images."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run all sizes, the smallest first, and print what they took."""
    args = _parser().parse_args(argv)
    files = corpus(args.work / "photos", N_FILES)
    runs = []
    with PhotoHost(files) as host:
        for n in sorted(args.sizes):
            runs.append(ingest(args.work / "growth" / str(n), host, n, args))
            say("{images} images: {whole_s:.1f} s, {units_s:.1f} s of them units".format(**vars(runs[-1])))
    figures = summary(runs) | {"engine": args.engine, "processes": args.processes, "threads": args.threads}
    text = json.dumps(figures)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    say(text)
    return int(figures["worst_deviation"] > LIMIT)


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def ingest(out: Path, host: PhotoHost, n: int, args: argparse.Namespace) -> Run:
    """`licet ingest-images` of so many photos, in processes of its own."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with open(out / "urls.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["url"], *([host.url(number)] for number in range(n))])
    (out / "source.yaml").write_text(
        "id: growth\ntitle: Growth\nkind: images\nlocation: urls.csv\nformat: csv\nlicence: CC0-1.0\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "jobs.ingest_images", "--sources", f"[{out}/source.yaml]", "--output", str(out)]
    command += ["--policy.purpose", "commercial-training", "--formats", "[webdataset]", "--engine", args.engine]
    command += ["--rows_per_unit", str(ROWS_PER_UNIT), "--processes", str(args.processes), "--dedup.mode", "none"]
    command += ["--spark.master", f"local[{args.processes},4]", "--fetch.threads", str(args.threads)]
    command += ["--fetch.allow_networks", "[127.0.0.0/8]"]
    command += ["--fetch.host_connections", "0", "--fetch.host_requests_per_s", "0", "--image.size_px", "256"]
    host.sent_at()
    log = out / "log"
    with open(log, "wb") as told:
        code = subprocess.run(command, stdout=told, stderr=subprocess.STDOUT, check=False).returncode
    said = json.loads((out / "ingest.json").read_text(encoding="utf-8")) if code == 0 else {}
    if said.get("kept") != n:
        raise SystemExit(f"{n} images: exit code {code}, {said.get('kept')} kept: see {log}")
    times = sorted(host.sent_at().values())
    steady_s = times[int(n * LAST)] - times[int(n * FIRST)]
    return Run(n, said["seconds"]["all"], said["seconds"]["units"], steady_s)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """The figures of all runs, and how far they are from growing in proportion."""
    images = np.array([run.images for run in runs], dtype=float)
    steady_s = np.array([run.steady_s for run in runs])
    per_image_s = float(images @ steady_s / (images @ images))
    deviations = steady_s / (per_image_s * images) - 1
    lines = {}
    for name in ("units", "whole"):
        slope_s, start_s = line(images, np.array([getattr(run, f"{name}_s") for run in runs]))
        lines[f"{name}_line"] = {"start_s": round(start_s, 2), "per_1000_images_s": round(1000 * slope_s, 3)}
        say(f"{name}: {start_s:.1f} s and {1000 * slope_s:.2f} s for each 1,000 images")
    for run, deviation in zip(runs, deviations, strict=True):
        rate = (LAST - FIRST) * run.images / run.steady_s
        say(f"{run.images} images: {rate:.0f}/s steady, {100 * deviation:+.1f} % from proportional growth")
    return {
        "sizes": [run.images for run in runs],
        "seconds": [run.whole_s for run in runs],
        "units_seconds": [run.units_s for run in runs],
        "steady_seconds": [round(run.steady_s, 3) for run in runs],
        **lines,
        "worst_deviation": round(float(np.abs(deviations).max()), 4),
    }


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) by least squares; a single point is a line through nought."""
    if len(x) == 1:
        return float(y[0] / x[0]), 0.0
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 10_000, 20_000, 40_000])
    parser.add_argument("--engine", default="local", choices=("spark", "local"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=16, help="in each process")
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--json", type=Path, help="where the figures are written as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
