"""The whole path on this machine: photos served over HTTP in, an adapter that knows its sources out.

A script that only calls licet's commands, as a person would type them, and measures what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from examples.demo.lists import files_to_serve, write_sources
from examples.demo.measure import PeakMemory, losses_by_step
from examples.photos.serve import PhotoServer

MARKER = ".licet-demo"
SUBJECT = "chelsea"


def main() -> int:
    arguments = _arguments()
    out = arguments.output
    # Two OpenMP threads on two busy cores are many times slower than one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _fresh_folder(out)
    started = time.monotonic()
    seconds: dict[str, float] = {}
    summary: dict[str, Any] = {}
    with PeakMemory() as memory:
        with PhotoServer(files_to_serve(), out / "requests.jsonl") as server, timed("ingest", seconds):
            say(f"1. Serving photos at {server.url}; 2. ingesting them with Spark")
            sources = write_sources(out / "sources", server.url)
            licet("ingest-images", "--config", "configs/jobs/ingest_images.yaml",
                  "--sources", json.dumps([str(s) for s in sources]), "--output", out,
                  "--image.size_px", 128, "--rows_per_unit", 8,
                  "--fetch.allow_networks", "[127.0.0.1/32]")  # fmt: skip
            requested = server.requests()
        say("3. Publishing the manifest and writing the licence report")
        with timed("publish", seconds):
            licet("publish", "--config", "configs/jobs/publish.yaml", "--catalog", out / "catalog",
                  "--manifest", out / "manifest.json")  # fmt: skip
        with timed("audit", seconds):
            licet("audit", "--config", "configs/jobs/audit.yaml", "--catalog", out / "catalog",
                  "--manifest", out / "manifest.json", "--output", out / "audit")  # fmt: skip
        summary |= rows_of(out, requested)
        summary |= train(out, arguments, seconds)
        say("6. Drawing the subject before and after training")
        with timed("sample", seconds):
            licet("sample", "--config", "configs/sample/compare.yaml", "--manifest", out / "manifest.json",
                  "--adapter", out / "adapter", "--seeds", arguments.seeds, "--output", out)  # fmt: skip
    samples = json.loads((out / "samples.json").read_text())
    summary |= {name: samples[name] for name in SIMILARITY}
    summary |= {
        "seconds": {**seconds, "total": round(time.monotonic() - started, 1)},
        "peak_rss_bytes": memory.peak_bytes,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    tell(out, summary)
    return 0 if summary["resume_identical"] and not summary["requests_for_denied_rows"] else 1


SIMILARITY = (
    "similarity_before", "similarity_after", "similarity_gain_lower_bound", "control_gain",
    "class_similarity_before", "class_similarity_after",
)  # fmt: skip


def rows_of(out: Path, requested: list[str]) -> dict[str, Any]:
    """Row counts from the audit, and how often the server itself was asked for a refused row."""
    audit = json.loads((out / "audit" / "audit.json").read_text())
    denied = {urlsplit(row["source_url"]).path for row in audit["refused"] if row["stage"] == "policy"}
    return {
        "rows_in": audit["rows_in"],
        "kept": audit["kept"],
        "rejected": audit["rejected"]["by_reason"],
        "requests": len(requested),
        "requests_for_denied_rows": sum(path in denied for path in requested),
    }


def train(out: Path, arguments: argparse.Namespace, seconds: dict[str, float]) -> dict[str, Any]:
    """Train once without interruption, once with a kill -9 in the middle; compare every step's losses."""
    options: list[object] = [
        "--data.manifest", out / "manifest.json", "--data.sources", json.dumps([SUBJECT]),
        "--trainer.max_steps", arguments.steps,
        "--prior.count", arguments.class_images, "--prior.folder", out / "prior",
        "--checkpoint.every_n_steps", max(1, arguments.steps // 6),
    ]  # fmt: skip
    half = arguments.steps // 2
    say(f"4. Training {arguments.steps} steps without interruption, to compare with")
    with timed("train", seconds):
        licet(*fit(out / "runs" / "uninterrupted", options))
    say(f"5. Training again, and killing the trainer after step {half}")
    with timed("train_killed_and_resumed", seconds):
        killed_at = train_and_kill(out / "runs" / "dreambooth", options, half)
        say(f"   killed with SIGKILL at step {killed_at}; the same command goes on")
        licet(*fit(out / "runs" / "dreambooth", options))
    expected = losses_by_step(out / "runs" / "uninterrupted")
    found = losses_by_step(out / "runs" / "dreambooth")
    shutil.copytree(out / "runs" / "dreambooth" / "adapter", out / "adapter")
    return {
        "killed_after_step": killed_at,
        "resume_identical": bool(expected) and len(expected) == arguments.steps and expected == found,
    }


def fit(run: Path, options: list[object]) -> list[object]:
    return ["train", "fit", "--config", "configs/train/dreambooth_lora.yaml", "--run", run, *options]


def train_and_kill(run: Path, options: list[object], after_step: int) -> int:
    """Start the trainer, kill -9 it once it has passed a step; returns the last step that it had logged."""
    process = subprocess.Popen(command_line(fit(run, options)))
    try:
        while process.poll() is None and max(losses_by_step(run), default=-1) < after_step:
            time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit(f"the trainer ended by itself (exit {process.returncode}) before step {after_step}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return max(losses_by_step(run))


def tell(out: Path, summary: dict[str, Any]) -> None:
    """What was measured, and what to open."""
    s = summary
    refused = ", ".join(f"{count} {reason}" for reason, count in s["rejected"].items())
    same = "equal" if s["resume_identical"] else "DIFFER FROM"
    rows = [
        ("Rows", f"{s['rows_in']} in = {s['kept']} kept + {sum(s['rejected'].values())} rejected ({refused})"),
        ("Refused rows", f"{s['requests_for_denied_rows']} requests reached the server for them"),
        (
            "Resume",
            f"losses after kill -9 at step {s['killed_after_step']} {same} the uninterrupted run's, bit for bit",
        ),
        ("Subject", f"similarity {s['similarity_before']:.3f} before, {s['similarity_after']:.3f} after training"),
        ("", f"gain at least {s['similarity_gain_lower_bound']:+.3f} (95 % bootstrap over seeds)"),
        ("Control", f"gain towards another subject's photos {s['control_gain']:+.3f}"),
        ("Class", f"drift: {s['class_similarity_before']:.3f} before, {s['class_similarity_after']:.3f} after"),
        ("Took", f"{s['seconds']['total']:.0f} s, {s['peak_rss_bytes'] / 2**30:.1f} GiB resident at the most"),
        ("", ""),
        ("Open", f"{out}/samples.png            before and after, with the nearest training photo"),
        ("", f"{out}/audit/index.html       every photo, its licence and credit; every refusal and why"),
        ("", f"{out}/adapter/README.md      the adapter's model card and credits"),
        ("", f"{out}/summary.json           these figures"),
        ("", f"tensorboard --logdir {out}/runs"),
    ]
    say("\n" + "\n".join(f"{name:<14}{text}".rstrip() for name, text in rows))


def licet(*arguments: object) -> None:
    """Run one licet command as a person would; stop the demo when it fails."""
    command = command_line(list(arguments))
    say("   $ " + shlex.join(["licet", *command[1:]]))
    result = subprocess.run(command)
    if result.returncode:
        raise SystemExit(f"licet {arguments[0]} ended with exit code {result.returncode}")


def command_line(arguments: list[object]) -> list[str]:
    return [str(Path(sys.executable).with_name("licet")), *(str(a) for a in arguments)]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 1)


def _fresh_folder(out: Path) -> None:
    """Empty a folder that an earlier demo made; refuse any other."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise SystemExit(f"{out} holds files that no demo made: choose another --output.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    parser.add_argument("--steps", type=int, default=160, help="training steps")
    parser.add_argument("--seeds", type=int, default=16, help="pictures that are drawn and measured")
    parser.add_argument("--class-images", type=int, default=16, help="class images for prior preservation")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
