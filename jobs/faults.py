"""Labelled write points at which a test can kill a process, to show that nothing is lost or written twice.

    LICET_KILL_AT=/some/file        the file's text names a point; the process that gets there removes the file and dies

Removing the file is what makes the kill happen once: of several processes at one point only one can remove it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POINTS = (
    "plan half written",
    "plan frozen, no unit",
    "shard half written",
    "shard whole, no index",
    "index whole, no outcomes",
    "outcomes whole, no report",
    "report received, no commit",
    "commit sent, no answer",
    "commit done, driver dead",
    "manifest page written, no root",
)


def write_point(name: str) -> None:
    """Die here, as from `kill -9`, if a test asked for it; otherwise do nothing."""
    assert name in POINTS, name
    armed = os.environ.get("LICET_KILL_AT")
    if armed is None or not is_armed(Path(armed), name):
        return
    try:
        os.unlink(armed)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def is_armed(file: Path, name: str) -> bool:
    """Whether the file names this point."""
    try:
        return file.read_text(encoding="utf-8").strip() == name
    except FileNotFoundError:
        return False
