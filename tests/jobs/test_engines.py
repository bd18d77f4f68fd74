"""All engines run real processes that raise and die; the work is a module that knows nothing of them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyspark import cloudpickle

from jobs.engines import Failure
from jobs.engines.local import LocalEngine
from jobs.engines.ray_engine import RayEngine
from jobs.engines.spark import SparkEngine

WORK = """
import os, signal, time
from pathlib import Path

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)

def work(unit):
    number, what, folder = unit
    attempt = len(list(Path(folder).glob(f"{number}.*")))
    (Path(folder) / f"{number}.{attempt}").touch()
    if what == "die once" and attempt == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "slow at first" and attempt == 0:
        time.sleep(20)
    if what == "raise once" and attempt == 0:
        raise OSError("not this time")
    if what == "raise always":
        raise ValueError("this unit is bad")
    if what == "die always":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "odd error":
        raise Odd("two", "arguments")
    if what == "slow":
        time.sleep(60)
    return {"number": number}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "work_of_engines.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("work_of_engines")
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules["work_of_engines"]


@pytest.fixture(params=["local", "ray", "spark"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "local":
        return LocalEngine(processes=2, attempts=4)
    if request.param == "ray":
        pytest.importorskip("ray")
        return RayEngine(processes=2, attempts=4)
    return SparkEngine(request.getfixturevalue("spark"), tmp_path / "reports")


def test_every_unit_reports_and_a_bad_one_is_named(engine: Any, work: ModuleType, tmp_path: Path) -> None:
    asked = ["fine", "die once", "raise once", "raise always", "fine", "fine"]
    units = [(number, what, str(tmp_path)) for number, what in enumerate(asked)]
    done = list(engine.run(work.work, units))
    failures = [item for item in done if isinstance(item, Failure)]
    assert {item["number"] for item in done if not isinstance(item, Failure)} == {0, 1, 2, 4, 5}, failures
    assert [(failure.unit, failure.error) for failure in failures] == [(units[3], "ValueError: this unit is bad")]
    assert len(list(tmp_path.glob("3.*"))) == 4


def test_a_unit_that_kills_its_process_fails_alone(engine: Any, work: ModuleType, tmp_path: Path) -> None:
    """Nor does an error that cannot be unpickled hurt anybody else."""
    asked = ["fine", "die always", "odd error", "fine", "fine"]
    units = [(number, what, str(tmp_path)) for number, what in enumerate(asked)]
    done = list(engine.run(work.work, units))
    failures = {item.unit: item.error for item in done if isinstance(item, Failure)}
    assert sorted(item["number"] for item in done if not isinstance(item, Failure)) == [0, 3, 4]
    assert set(failures) == {units[1], units[2]}
    assert "its process died" in failures[units[1]]
    assert failures[units[2]] == "Odd: two"


def test_no_units_is_no_work(engine: Any, work: ModuleType) -> None:
    assert list(engine.run(work.work, [])) == []


DRIVER = """
import sys
from jobs.engines.local import LocalEngine
import work_of_engines
if __name__ == "__main__":
    units = [(number, "slow", sys.argv[1]) for number in range(2)]
    list(LocalEngine(processes=2).run(work_of_engines.work, units))
"""


def test_workers_end_with_a_killed_driver(work: ModuleType, tmp_path: Path, until: Callable[..., None]) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    driver = subprocess.Popen(
        [sys.executable, tmp_path / "driver.py", str(tmp_path)], env={**os.environ, "PYTHONPATH": path}
    )
    until(lambda: len(list(tmp_path.glob("?.0"))) == 2)
    workers = [p for p in processes() if p[1] == driver.pid]
    assert len(workers) >= 2
    driver.kill()
    driver.wait()
    until(lambda: not {p[0] for p in workers} & {p[0] for p in processes()})


def processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process that is not a zombie."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found.append((int(stat.parent.name), int(parent)))
    return found


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(holds: Callable[[], bool]) -> None:
        for _ in range(600):
            if holds():
                return
            time.sleep(0.1)
        raise AssertionError("it did not happen within a minute")

    return wait
