"""Labelled write points at which a test can kill a process, to show that nothing is lost or written twice.

    LICET_KILL_AT=/some/file        the file's text names a point; the process that gets there removes the file and dies

Removing the file is what makes the kill happen once: of several processes at one point only one can remove it.
With a second line, `executor`, Spark's JVM executor dies with its Python worker, as when a machine goes away.
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

EXECUTOR = "executor"
_GENERATIONS_ABOVE = 2
"""A Python worker's parent is pyspark's daemon, and the daemon's parent the JVM executor."""


def write_point(name: str) -> None:
    """Die here, as from `kill -9`, if a test asked for it; otherwise do nothing."""
    assert name in POINTS, name
    armed = os.environ.get("LICET_KILL_AT")
    if armed is None or not is_armed(Path(armed), name):
        return
    with_executor = EXECUTOR in _lines(Path(armed))[1:]
    try:
        os.unlink(armed)
    except FileNotFoundError:
        return
    if with_executor:
        os.kill(_ancestor(_GENERATIONS_ABOVE), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def is_armed(file: Path, name: str) -> bool:
    """Whether the file names this point."""
    return _lines(file)[:1] == [name]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []


def _ancestor(generations: int) -> int:
    """The process so many generations above this one (Linux)."""
    pid = os.getpid()
    for _ in range(generations):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return pid
