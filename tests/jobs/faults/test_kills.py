"""The fault benchmark, once for each fault that needs no cluster: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.faults import IN_DRIVER, IN_WORKERS, measure


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "n_points"), [("local", len(IN_WORKERS)), ("spark", len(IN_WORKERS)), ("driver", len(IN_DRIVER))]
)
def test_nothing_that_is_killed_loses_a_row(spark: object, tmp_path: Path, part: str, n_points: int) -> None:
    undisturbed, *found = measure(tmp_path, [part], times=1)
    assert len(found) == n_points
    for measured in (undisturbed, *found):
        assert (measured.lost, measured.duplicated, measured.unsettled, measured.differs) == (0, 0, 0, False)
    assert all(measured.times >= 1 for measured in found)


def can_mount(folder: Path) -> bool:
    """Whether a small disk can be made here."""
    if os.geteuid() != 0:
        return False
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "licet", str(folder)], check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_with_room(spark: object, tmp_path: Path) -> None:
    if not can_mount(tmp_path / "probe"):
        pytest.skip("only root can mount a small disk")
    _, found = measure(tmp_path, ["disk"], times=2)
    assert (found.times, found.lost, found.duplicated, found.unsettled, found.differs) == (2, 0, 0, 0, False)
