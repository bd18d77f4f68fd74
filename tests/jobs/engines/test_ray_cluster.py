"""A real Ray cluster of two nodes on this machine: a node that goes away, and one that comes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs.engines.ray_engine import RayEngine
from licet.errors import LicetError, MissingExtraError

WORK = """
import os, time
from pathlib import Path

def work(unit):
    import ray
    number, folder, doomed = unit
    node = ray.get_runtime_context().get_node_id()
    Path(folder, f"{number}.{node}.begun").touch()
    until = time.monotonic() + 120
    while node == doomed and time.monotonic() < until:
        time.sleep(0.1)  # until its node goes away
    while doomed and not list(Path(folder).glob(f"*.{doomed}.begun")) and time.monotonic() < until:
        time.sleep(0.1)  # until a unit runs there
    time.sleep(0.5)
    return {"number": number, "node": node}
"""
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that the cluster's nodes do not have."""
    package = tmp_path / "code/work_on_ray"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(WORK)
    monkeypatch.syspath_prepend(package.parent)
    yield importlib.import_module("work_on_ray")
    del sys.modules["work_on_ray"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_goes_away_costs_its_running_units_only(cluster: Any, work: ModuleType, tmp_path: Path) -> None:
    """One attempt is allowed: a lost node is not held against a unit."""
    spot = cluster.add_node(**SMALL)
    engine = RayEngine(cluster.address, attempts=1, modules=[str(Path(work.__file__ or "").parent)])
    done: list[dict[str, Any]] = []
    for report in engine.run(work.work, [(number, str(tmp_path), spot.node_id) for number in range(8)]):
        if not done:
            cluster.remove_node(spot, allow_graceful=False)
        done.append(report)
    assert sorted(report["number"] for report in done) == list(range(8))
    begun = [path.name.split(".") for path in tmp_path.glob("*.begun")]
    (lost,) = [number for number, node, _ in begun if node == spot.node_id]
    assert sorted(number for number, *_ in begun) == sorted([*map(str, range(8)), lost])  # that one twice


@pytest.mark.slow
def test_a_node_that_comes_gets_units(cluster: Any, work: ModuleType, tmp_path: Path) -> None:
    engine = RayEngine(cluster.address, modules=[str(Path(work.__file__ or "").parent)])
    nodes: list[str] = []
    for report in engine.run(work.work, [(number, str(tmp_path), "") for number in range(40)]):
        nodes.append(report["node"])
        if len(nodes) == 2:
            cluster.add_node(**SMALL)
    assert len(nodes) == 40
    assert len(set(nodes)) == 2


def test_a_cluster_that_is_not_there_is_told_in_one_sentence() -> None:
    pytest.importorskip("ray")
    with pytest.raises(LicetError, match=r"no Ray answers at 127.0.0.1:1: ConnectionRefusedError"):
        list(RayEngine("127.0.0.1:1").run(len, ["unit"]))


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'licet\[ray\]'"):
        list(RayEngine().run(len, ["unit"]))
