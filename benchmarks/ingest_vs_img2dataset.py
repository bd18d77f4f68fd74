"""licet's image ingest beside img2dataset, in one run: the same server, URLs, processes, threads, size and quality.

    python -m benchmarks.ingest_vs_img2dataset                 all measurements, about 20 minutes on two cores
    python -m benchmarks.ingest_vs_img2dataset --only http     one of: http, tls, whole, limit

Rights, address checks and decoder isolation are on in licet; per-host limits alone are lifted, for one machine plays
all hosts. The steady rate is measured by the server: photos sent between 20 % and 80 % of all, over the time between.
img2dataset is installed into an environment of its own. Prints a line for each measurement and, last, a JSON object.

The 200 names of the TLS measurement are given to both sides through /etc/hosts in a mount namespace of this process:
that takes root, or a kernel that lets users make namespaces.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trustme

from benchmarks.fidelity import mean_psnr
from benchmarks.limit import plain_rate
from benchmarks.photos import corpus
from benchmarks.server import PhotoHost, host_name

PEER = "img2dataset==1.47.0"
N_FILES = 256
SIZE_PX = 256
QUALITY = 95
ROWS_PER_SHARD = 1000
N_HOSTS = 200
_NAMESPACE = "LICET_BENCHMARK_NAMES"


@dataclass(frozen=True)
class Setup:
    """What both sides share."""

    work: Path
    processes: int
    threads: int
    engine: str
    ca: Path


@dataclass(frozen=True)
class Measured:
    """One run of one side."""

    steady: float
    """Images a second between 20 % and 80 % of all, as the server saw them."""
    whole: float
    """Images a second by the clock, start-up included."""
    out: Path


def main() -> int:
    """Run the measurements that were asked for, and print them."""
    args = _parser().parse_args()
    if os.environ.get(_NAMESPACE) is None:
        return _again_with_names(args.work)
    args.work.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    certificate = args.work / "server.pem"
    names = [host_name(i) for i in range(N_HOSTS)]
    issued = authority.issue_cert("127.0.0.1", *names)
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(args.work / "ca.pem"))
    setup = Setup(args.work, args.processes, args.threads, args.engine, args.work / "ca.pem")
    files = corpus(args.work / "photos", N_FILES)
    peer = _peer_environment(args.work)
    figures: dict[str, float] = {}
    if "http" in args.only or "limit" in args.only:
        with PhotoHost(files) as host:
            if "http" in args.only:
                ours, theirs = _both(setup, peer, host, args.images, "http", args.repeat)
                _note(figures, "steady", ours.steady, theirs.steady)
                figures["psnr_ours"] = mean_psnr(ours.out, files)
                figures["psnr_peer"] = mean_psnr(theirs.out, files)
                say(f"PSNR against full decode and Lanczos: {figures['psnr_ours']:.2f} and {figures['psnr_peer']:.2f}")
                full, _ = _licet(setup, host, args.images // 5, "full", ["--image.decoding", "full"])
                figures["psnr_ours_full"] = mean_psnr(full.out, files)
                say(f"PSNR with --image.decoding full: {figures['psnr_ours_full']:.2f}")
            if "limit" in args.only:
                _limit(setup, host, args.images, args.repeat, figures)
    if "tls" in args.only:
        with PhotoHost(files, N_HOSTS, certificate) as host:
            ours, theirs = _both(setup, peer, host, args.images, "tls", args.repeat)
            _note(figures, "tls", ours.steady, theirs.steady)
    if "whole" in args.only:
        with PhotoHost(files) as host:
            ours, theirs = _both(setup, peer, host, args.whole_images, "whole", 1)
            _note(figures, "whole", ours.whole, theirs.whole)
    figures = {name: round(value, 3) for name, value in figures.items()}
    text = json.dumps(figures | {"processes": args.processes, "threads": args.threads, "engine": args.engine})
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    say(text)
    return 0


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _both(setup: Setup, peer: Path, host: PhotoHost, n: int, name: str, repeat: int) -> tuple[Measured, Measured]:
    """Both sides by turns, `repeat` times; of each the run with the median steady rate."""
    ours, theirs = [], []
    for turn in range(repeat):
        ours.append(_licet(setup, host, n, f"{name}{turn}", [])[0])
        theirs.append(_img2dataset(setup, peer, host, n, f"{name}{turn}"))
        say(
            f"{name}, {n} images: licet {ours[-1].steady:.0f}/s steady, {ours[-1].whole:.0f}/s whole; "
            f"img2dataset {theirs[-1].steady:.0f}/s steady, {theirs[-1].whole:.0f}/s whole"
        )
    return _median(ours), _median(theirs)


def _median(runs: list[Measured]) -> Measured:
    return sorted(runs, key=lambda run: run.steady)[len(runs) // 2]


def _note(figures: dict[str, float], name: str, ours: float, theirs: float) -> None:
    figures |= {f"{name}_ratio": ours / theirs, f"{name}_ours_per_s": ours, f"{name}_peer_per_s": theirs}
    say(f"{name}: {ours:.0f}/s against {theirs:.0f}/s: {ours / theirs:.2f} times")


def _limit(setup: Setup, host: PhotoHost, n: int, repeat: int, figures: dict[str, float]) -> None:
    """licet's rate over that of the same functions in plain processes; by turns, medians."""
    rates, limits = [], []
    for turn in range(repeat):
        rates.append(_licet(setup, host, n, f"limit{turn}", [])[0].steady)
        limits.append(plain_rate(host, n, setup.processes, setup.threads, SIZE_PX, QUALITY))
        say(f"limit: licet {rates[-1]:.0f}/s, its functions in plain processes {limits[-1]:.0f}/s")
    _note(figures, "limit", statistics.median(rates), statistics.median(limits))


def _licet(setup: Setup, host: PhotoHost, n: int, name: str, more: list[str]) -> tuple[Measured, dict[str, object]]:
    out = setup.work / "licet" / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    urls = out / "urls.csv"
    _write_urls(urls, host, n)
    source = out / "source.yaml"
    source.write_text(
        "id: bench\ntitle: Benchmark\nkind: images\nlocation: urls.csv\nformat: csv\nlicence: CC0-1.0\n"
        "creator: benchmark\n"
    )
    command = [sys.executable, "-m", "jobs.ingest_images", "--sources", f"[{source}]", "--output", str(out)]
    command += ["--policy.purpose", "commercial-training", "--formats", "[webdataset]", "--engine", setup.engine]
    command += ["--rows_per_unit", str(ROWS_PER_SHARD), "--processes", str(setup.processes)]
    command += ["--spark.master", f"local[{setup.processes},4]", "--fetch.threads", str(setup.threads)]
    command += ["--fetch.allow_networks", "[127.0.0.0/8]", "--fetch.ca_bundle", str(setup.ca)]
    command += ["--fetch.host_connections", "0", "--fetch.host_requests_per_s", "0"]
    command += ["--image.size_px", str(SIZE_PX), "--image.quality", str(QUALITY), "--dedup.mode", "none", *more]
    measured = _timed(command, host, n, out, dict(os.environ))
    return measured, json.loads((out / "ingest.json").read_text())


def _img2dataset(setup: Setup, peer: Path, host: PhotoHost, n: int, name: str) -> Measured:
    out = setup.work / "img2dataset" / name
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    urls = out.with_suffix(".csv")
    _write_urls(urls, host, n)
    command = [str(peer / "bin" / "img2dataset"), "--url_list", str(urls), "--input_format", "csv", "--url_col", "url"]
    command += ["--output_format", "webdataset", "--output_folder", str(out), "--image_size", str(SIZE_PX)]
    command += ["--resize_mode", "center_crop", "--encode_format", "jpg", "--encode_quality", str(QUALITY)]
    command += ["--processes_count", str(setup.processes), "--thread_count", str(setup.threads)]
    command += ["--number_sample_per_shard", str(ROWS_PER_SHARD), "--compute_hash", "sha256"]
    return _timed(command, host, n, out, os.environ | {"SSL_CERT_FILE": str(setup.ca), "NO_ALBUMENTATIONS_UPDATE": "1"})


def _timed(command: list[str], host: PhotoHost, n: int, out: Path, environment: dict[str, str]) -> Measured:
    host.sent_at()
    log = out.with_suffix(".log")
    began = time.monotonic()
    with open(log, "wb") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    seconds = time.monotonic() - began
    if code:
        raise SystemExit(f"{command[0]} ended with {code}: see {log}\n{log.read_text(errors='replace')[-2000:]}")
    times = sorted(host.sent_at().values())
    if len(times) < n:
        raise SystemExit(f"{command[0]} fetched {len(times)} of {n} photos: see {log}")
    first, last = n // 5, n * 4 // 5
    return Measured((last - first) / (times[last] - times[first]), n / seconds, out)


def _write_urls(path: Path, host: PhotoHost, n: int) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["url"])
        writer.writerows([host.url(i)] for i in range(n))


def _peer_environment(work: Path) -> Path:
    """A virtual environment with img2dataset, made once."""
    folder = work / "peer"
    if not (folder / "bin" / "img2dataset").exists():
        say(f"installing {PEER}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", PEER], check=True)
    return folder


def _again_with_names(work: Path) -> int:
    """Run this module once more where /etc/hosts knows the names."""
    work.mkdir(parents=True, exist_ok=True)
    hosts = (work / "hosts").resolve()
    names = [f"127.0.{1 + i // 100}.{1 + i % 100} {host_name(i)}\n" for i in range(N_HOSTS)]
    hosts.write_text("127.0.0.1 localhost\n" + Path("/etc/hosts").read_text() + "".join(names))
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    python = [sys.executable, "-m", "benchmarks.ingest_vs_img2dataset", *sys.argv[1:]]
    run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    return run([*command, script, str(hosts), *python], env=os.environ | {_NAMESPACE: "1"}, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--whole-images", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=16, help="in each process")
    parser.add_argument("--engine", default="spark", choices=("spark", "local"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["http", "limit", "tls", "whole"])
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--json", type=Path, help="where the figures are written as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
