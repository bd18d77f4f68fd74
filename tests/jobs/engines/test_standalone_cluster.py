"""A real standalone cluster (a master and two workers), `spark-submit --py-files`, and executors that are killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from benchmarks.accounts import account
from benchmarks.faults_site import Site
from benchmarks.standalone import StandaloneCluster
from jobs.ingest_images import main as ingest
from jobs.publish import main as publish
from licet.manifest import read_manifest

pytestmark = pytest.mark.slow

COMMERCIAL = ["--policy.purpose", "commercial-training"]
FLAGS = ["--rows_per_unit", "4", "--image.size_px", "96", "--fetch.retries", "1", "--fetch.backoff_s", "0.01"]
FLAGS += ["--fetch.allow_networks", "[127.0.0.0/8]"]


@pytest.fixture(scope="module")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names the point at which an executor dies."""
    return tmp_path_factory.mktemp("armed") / "kill-at"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, armed: Path) -> Iterator[StandaloneCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with StandaloneCluster(folder, workers=2, environ={"LICET_KILL_AT": str(armed)}) as cluster:
        yield cluster


def arguments(source: Any, output: Path, *extra: str) -> list[str]:
    return ["--sources", f"[{source.yaml}]", "--output", str(output), *COMMERCIAL, *FLAGS, *extra]


def on_cluster(cluster: StandaloneCluster, source: Any, output: Path) -> None:
    done = cluster.submit(["jobs/ingest_images.py", *arguments(source, output)])
    assert done.returncode == 0, done.stdout + done.stderr


def identity(output: Path) -> str:
    assert publish(["--catalog", f"{output}/catalog", "--manifest", f"{output}/manifest.json", *COMMERCIAL]) == 0
    return read_manifest(output / "manifest.json").identity


def require_every_row_once(output: Path, source: Any) -> None:
    outcomes = DeltaTable(str(output / "catalog/outcomes")).to_pyarrow_table().to_pylist()
    assert len({row["row_id"] for row in outcomes}) == len(outcomes) == len(source.rows)
    assert Counter(row["reason"] for row in outcomes if row["state"] == "rejected") == source.reasons


@pytest.fixture(scope="module")
def expected(spark: Any, module_source: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The identity that local mode gives."""
    output = tmp_path_factory.mktemp("local-mode") / "out"
    assert ingest(arguments(module_source, output)) == 0
    return identity(output)


def test_a_cluster_gives_the_identity_of_local_mode(
    cluster: StandaloneCluster, module_source: Any, expected: str, tmp_path: Path
) -> None:
    on_cluster(cluster, module_source, tmp_path / "out")
    require_every_row_once(tmp_path / "out", module_source)
    assert identity(tmp_path / "out") == expected
    used = [path for path in cluster.folder.glob("work-*/app-*/*") if path.is_dir()]
    assert {path.parent.parent.name for path in used} == {"work-0", "work-1"}
    assert all((path / "licet-pyfiles.zip").exists() for path in used)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_other_engines_give_it_too(spark: Any, module_source: Any, expected: str, tmp_path: Path, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    assert ingest(arguments(module_source, tmp_path / "out", "--engine", engine, "--processes", "2")) == 0
    require_every_row_once(tmp_path / "out", module_source)
    assert identity(tmp_path / "out") == expected
    assert json.loads((tmp_path / "out/ingest.json").read_text())["engine"] == engine


@pytest.mark.parametrize("point", ["shard half written", "outcomes whole, no report"])
def test_a_killed_executor_loses_no_row(
    cluster: StandaloneCluster, module_source: Any, expected: str, tmp_path: Path, armed: Path, point: str
) -> None:
    armed.write_text(f"{point}\nexecutor")
    on_cluster(cluster, module_source, tmp_path / "out")
    assert not armed.exists()  # it died
    assert any("exitStatus 137" in path.read_text() for path in cluster.folder.glob("worker-*.log"))  # kill -9
    require_every_row_once(tmp_path / "out", module_source)
    assert identity(tmp_path / "out") == expected


def test_a_unit_that_speculation_runs_twice_counts_once(spark: Any, cluster: StandaloneCluster, tmp_path: Path) -> None:
    """The first attempt waits for a slow answer; the second gets it at once, and reports first."""
    output = tmp_path / "out"
    eager = {"spark.speculation": "true", "spark.speculation.interval": "100ms"}
    eager |= {"spark.speculation.multiplier": "1.5", "spark.speculation.quantile": "0.5"}
    with Site(tmp_path / "site") as site:
        site.slow_once(units=1)
        flags = ["--sources", f"[{site.source}]", "--output", str(output), *site.flags, "--fetch.timeout_s", "60"]
        done = cluster.submit(["jobs/ingest_images.py", *flags], eager)
        assert done.returncode == 0, done.stdout + done.stderr
        assert site.asked_twice() == 1
        identity(output)
        assert account(output, site.n_rows).whole
