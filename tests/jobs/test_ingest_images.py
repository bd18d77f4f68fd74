"""The whole ingest on real parts: an HTTP server, Spark, Delta, four shard formats; read back with other readers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from jobs.faults import POINTS
from jobs.ingest_images import main
from jobs.publish import main as publish
from licet.manifest import read_manifest, verify_manifest
from licet.records import row_id_of
from licet.shards import FORMATS, open_reader

FLAGS = ["--rows_per_unit", "8", "--image.size_px", "96", "--fetch.retries", "1", "--fetch.backoff_s", "0.01"]
FLAGS += ["--fetch.allow_networks", "[127.0.0.0/8]", "--formats", json.dumps(FORMATS)]
SITE_FILES = ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")
COMMERCIAL = ["--policy.purpose", "commercial-training"]


def arguments(source: Any, output: Path, *extra: str) -> list[str]:
    return ["--sources", f"[{source.yaml}]", "--output", str(output), *COMMERCIAL, *FLAGS, *extra]


def table(output: Path, name: str) -> list[dict[str, Any]]:
    return DeltaTable(str(output / "catalog" / name)).to_pyarrow_table().to_pylist(maps_as_pydicts="strict")


def figures(output: Path) -> dict[str, Any]:
    return json.loads((output / "ingest.json").read_text())


def require_whole(output: Path, source: Any) -> None:
    """Every row once, with the outcome that is expected; no file that nobody lists."""
    outcomes = table(output, "outcomes")
    assert len({row["row_id"] for row in outcomes}) == len(outcomes) == len(source.rows)
    assert Counter(row["reason"] for row in outcomes if row["state"] == "rejected") == source.reasons
    units = [row for row in table(output, "commits") if row["kind"] == "unit"]
    assert len({(row["unit_id"], row["generation"]) for row in units}) == len(units) <= 5
    assert sum(row["planned"] for row in units) == len(source.rows)
    listed = {row["attempt"] for row in table(output, "commits")}
    files = [path for path in (output / "shards").rglob("*") if path.is_file()]
    assert {path.name[:32] for path in files if "d" not in path.parent.suffix} == listed - {""}


@pytest.fixture(scope="module")
def ingested(module_source: Any, module_web: Any, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ingest and its manifest. Tests that go on from it work on a copy."""
    output = tmp_path_factory.mktemp("ingested") / "out"
    assert main(arguments(module_source, output)) == 0
    assert publish(["--catalog", f"{output}/catalog", "--manifest", f"{output}/manifest.json", *COMMERCIAL]) == 0
    module_web.log_of_ingest = list(module_web.log)
    return output


@pytest.fixture
def copy(ingested: Path, tmp_path: Path) -> Path:
    shutil.copytree(ingested, tmp_path / "moved")
    return tmp_path / "moved"


def test_every_row_is_accounted_for(ingested: Path, module_source: Any) -> None:
    require_whole(ingested, module_source)
    counted = figures(ingested)
    assert counted["rows_in"] == counted["kept"] + sum(counted["rejected"].values()) == len(module_source.rows)
    assert counted["rejected"] == module_source.reasons
    for row in table(ingested, "samples"):
        assert row["licence"] and row["attribution"] and row["source_url"] and row["sha256"] and row["decision"]
    for row in table(ingested, "outcomes"):
        assert row["state"] == "kept" or (row["reason"] and row["stage"])


def test_a_refused_row_costs_no_request(ingested: Path, module_source: Any, module_web: Any) -> None:
    log = Counter(module_web.log_of_ingest)
    assert all(log[path] == 0 for path in module_source.denied)
    assert log["/copy.jpg"] == 1
    counted = figures(ingested)
    assert (counted["requests"], counted["requests_for_denied_rows"]) == (len(module_web.log_of_ingest), 0)


def test_row_ids_are_those_of_the_contract_and_ordinals_are_list_order(ingested: Path, module_source: Any) -> None:
    plan = sorted(table(ingested, "plan"), key=lambda row: row["ordinal"])
    assert [row["url"] for row in plan] == [row["url"] for row in module_source.rows]
    assert [row["row_id"] for row in plan] == [row_id_of("photos", row["url"], 0) for row in plan]


def test_all_formats_hold_the_same_samples_in_plan_order(ingested: Path) -> None:
    places = {row["row_id"]: (row["unit_index"], row["place"]) for row in table(ingested, "plan")}
    manifest = read_manifest(ingested / "manifest.json")
    verify_manifest(manifest)
    assert manifest.formats == FORMATS
    seen: list[tuple[int, int]] = []
    for entry in manifest.entries():
        first, *others = (open_reader(format, manifest.resolve(entry.files[format].path)) for format in FORMATS)
        samples = [first[position] for position in range(len(first))]
        assert all([other[position] for position in range(len(other))] == samples for other in others)
        assert all((sample.width, sample.height) == (96, 96) for sample in samples)
        seen += [places[sample.key] for sample in samples]
    assert seen == sorted(seen)


def test_the_kept_copy_carries_what_all_copies_ask_for(ingested: Path) -> None:
    rows = {row["source_url"].rsplit("/", 1)[-1]: row for row in table(ingested, "outcomes")}
    kept, dropped = rows["coffee.jpg"], rows["copy.jpg"]
    assert (dropped["state"], dropped["reason"], dropped["duplicate_of"]) == ("rejected", "duplicate", kept["row_id"])
    assert kept["licence"] == "CC-BY-4.0 AND CC0-1.0"
    assert kept["attribution"] == "A. Nonymous (CC0-1.0); Another (CC-BY-4.0)"
    manifest = read_manifest(ingested / "manifest.json")
    said = {
        row["key"]: row
        for entry in manifest.entries()
        for row in manifest.index(entry, "parquet").table.select(["key", "live", "licence", "attribution"]).to_pylist()
    }
    assert said[kept["row_id"]]["licence"] == kept["licence"]
    assert said[kept["row_id"]]["attribution"] == kept["attribution"]
    assert not said.get(dropped["row_id"], {"live": False})["live"]
    assert sum(row["live"] for row in said.values()) == manifest.totals["live_rows"] == figures(ingested)["kept"]


def test_deltas_log_keeps_no_text_of_rows(ingested: Path) -> None:
    logs = [path.read_text() for path in (ingested / "catalog").glob("*/_delta_log/*.json")]
    assert len(logs) >= 8
    assert not any("127.0.0.1" in log or "Nonymous" in log for log in logs)


def test_the_local_engine_gives_the_same_identity(ingested: Path, module_source: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(arguments(module_source, output, "--engine", "local", "--processes", "2")) == 0
    require_whole(output, module_source)
    assert publish(["--catalog", f"{output}/catalog", "--manifest", f"{output}/manifest.json", *COMMERCIAL]) == 0
    one, other = (read_manifest(folder / "manifest.json") for folder in (ingested, output))
    assert one.identity == other.identity


def test_a_finished_output_is_not_fetched_again_even_when_it_was_moved(
    copy: Path, module_source: Any, module_web: Any
) -> None:
    before = len(module_web.log)
    assert main(arguments(module_source, copy)) == 0
    assert len(module_web.log) == before
    assert figures(copy)["requests_this_run"] == 0
    require_whole(copy, module_source)


def test_changed_options_are_refused_with_the_difference(
    copy: Path, module_source: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(module_source, copy, "--image.size_px", "64", "--policy.purpose", "research")) == 1
    told = capsys.readouterr().err
    assert "image.size_px: 96 -> 64" in told
    assert 'policy.purpose: "commercial-training" -> "research"' in told
    assert "--plan new" in told


def test_a_policy_that_changes_its_mind_costs_exactly_the_rows_concerned(
    copy: Path, module_source: Any, module_web: Any
) -> None:
    before = len(module_web.log)
    flipped = ["--plan", "new", "--policy.overrides.licence-non-commercial", "allow-with-obligations"]
    assert main(arguments(module_source, copy, *flipped)) == 0
    asked = [path for path in module_web.log[before:] if path not in SITE_FILES]
    assert sorted(asked) == sorted(path for path in module_source.denied if path.endswith("?nc"))
    outcomes = table(copy, "outcomes")
    assert len({row["row_id"] for row in outcomes}) == len(outcomes) == len(module_source.rows)
    merged = {row["source_url"].rsplit("/", 1)[-1]: row for row in outcomes}
    assert merged["coffee.jpg?nc"]["reason"] == "duplicate"
    assert merged["coffee.jpg"]["licence"] == "CC-BY-4.0 AND CC-BY-NC-4.0 AND CC0-1.0"
    target = copy / "successor.json"
    old = ["--catalog", f"{copy}/catalog", "--manifest", str(target), *COMMERCIAL, "--parent", f"{copy}/manifest.json"]
    assert publish(old) == 0  # without the override the two photos that now carry NC are out
    revoked = {merged[name]["row_id"] for name in ("coffee.jpg", "rocket.jpg")}
    assert set(read_manifest(target).revoked) == revoked


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--policy.purpose", "commercial"], "policy.purpose"),
        (["--policy.overrides.licence-odd", "allow"], "names no rule"),
        (["--image.background", "blue"], "a colour such as"),
        (["--output", "s3://bucket/x"], "mount the store"),
        (["--no_such_flag", "1"], "no_such_flag"),
    ],
)
def test_flags_that_make_no_sense_end_with_2_and_write_nothing(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: Sequence[str], told: str
) -> None:
    assert main(arguments(source, tmp_path / "out", *extra)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_licence_in_a_source_ends_with_2_and_its_line(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = source.yaml.read_text().replace("licence: CC0-1.0", "licence: CC-WRONG")
    source.yaml.write_text(text)
    assert main(arguments(source, tmp_path / "out")) == 2
    assert "photos.yaml, line 8: expected an SPDX licence expression" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WORKER_POINTS = POINTS[2:6]
DRIVER_POINTS = [*POINTS[:2], *POINTS[6:9]]


@pytest.mark.parametrize(
    ("engine", "point"),
    [
        ("spark", "shard half written"),
        ("local", "outcomes whole, no report"),
        *[
            pytest.param(engine, point, marks=pytest.mark.slow)
            for engine in ("spark", "local")
            for point in WORKER_POINTS
        ],
    ],
)
def test_a_killed_worker_loses_no_row(
    spark: Any, source: Any, tmp_path: Path, kill_file: Path, engine: str, point: str
) -> None:
    kill_file.write_text(point)
    assert main(arguments(source, tmp_path / "out", "--engine", engine, "--processes", "2")) == 0
    assert not kill_file.exists()  # somebody died
    require_whole(tmp_path / "out", source)


@pytest.mark.parametrize(
    "point",
    [
        "commit sent, no answer",
        *[pytest.param(p, marks=pytest.mark.slow) for p in DRIVER_POINTS],
    ],
)
def test_a_killed_driver_loses_no_row(spark: Any, source: Any, tmp_path: Path, point: str) -> None:
    kill_file = tmp_path / "kill-at"
    kill_file.write_text(point)
    command = [sys.executable, "-m", "jobs.ingest_images", *arguments(source, tmp_path / "out")]
    killed = subprocess.run(command, env={**os.environ, "LICET_KILL_AT": str(kill_file)}, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    committed = table(tmp_path / "out", "commits") if (tmp_path / "out/catalog/commits").exists() else []
    assert main(arguments(source, tmp_path / "out")) == 0
    require_whole(tmp_path / "out", source)
    kept = {row["attempt"] for row in table(tmp_path / "out", "commits")}
    assert {row["attempt"] for row in committed} <= kept  # what was committed is not done again


def test_a_unit_that_fails_for_good_is_named_and_tried_again_by_the_next_run(
    spark: Any, web: Any, write_list: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(
        tmp_path / "lists", [{"url": f"{web.url}/{name}.jpg", "creator": "A"} for name in ("moon", "coffee")]
    )
    output = tmp_path / "out"
    flags = ["--sources", str(source), "--output", str(output), *COMMERCIAL, *FLAGS, "--image.size_px", "32"]
    output.mkdir()
    (output / "shards").write_text("a file where a folder should be")
    assert main([*flags, "--engine", "local", "--processes", "1"]) == 1
    assert "1 of 1 units failed for good" in capsys.readouterr().err
    assert (figures(output)["rows_in"], figures(output)["kept"], figures(output)["pending"]) == (2, 0, 2)
    (output / "shards").unlink()
    assert main(flags) == 0
    assert (figures(output)["rows_in"], figures(output)["kept"], figures(output)["pending"]) == (2, 2, 0)


def test_two_runs_cannot_write_to_one_output(
    spark: Any, source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.commit import only_writer

    with only_writer(tmp_path / "out"):
        assert main(arguments(source, tmp_path / "out")) == 1
    assert "another run is writing" in capsys.readouterr().err


@pytest.mark.slow
def test_spark_submit_does_the_same(source: Any, ingested: Path, tmp_path: Path) -> None:
    import pyspark

    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    packages = ["--master", "local[2,4]", "--packages", "io.delta:delta-spark_4.1_2.13:4.4.0"]
    environ = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path.cwd())}
    command = [str(submit), *packages, "jobs/ingest_images.py", *arguments(source, tmp_path / "out")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    require_whole(tmp_path / "out", source)
