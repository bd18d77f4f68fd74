"""The demo, run once for all tests here, with fewer steps and seeds than `make demo`."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> SimpleNamespace:
    """What `make demo` leaves, from 12 training steps and 3 seeds: the path, not the quality."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [
        sys.executable,
        "-m",
        "examples.demo.run",
        "--output",
        out,
        "--steps",
        "12",
        "--seeds",
        "3",
        "--class-images",
        "4",
    ]
    result = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((out / "summary.json").read_text())
    return SimpleNamespace(out=out, summary=summary, printed=result.stdout)
