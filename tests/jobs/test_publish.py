"""Publishing a catalog: licences decided again, the manifest whole or not there, clear answers to wrong requests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.ingest_images import main as ingest
from jobs.publish import main as publish
from licet.manifest import read_manifest, verify_manifest

COMMERCIAL = ["--policy.purpose", "commercial-training"]
LOCAL = ["--fetch.allow_networks", "[127.0.0.0/8]"]


@pytest.fixture(scope="module")
def published(module_source: Any, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with one format, published for commercial training."""
    output = tmp_path_factory.mktemp("published") / "out"
    flags = ["--sources", f"[{module_source.yaml}]", "--output", str(output), "--formats", "[parquet]"]
    assert ingest([*flags, *COMMERCIAL, "--image.size_px", "64", "--fetch.retries", "0", *LOCAL]) == 0
    assert publish(["--catalog", f"{output}/catalog", "--manifest", f"{output}/manifest.json", *COMMERCIAL]) == 0
    return output


def test_a_manifest_holds_what_the_catalog_keeps(published: Path) -> None:
    manifest = read_manifest(published / "manifest.json")
    verify_manifest(manifest)
    assert manifest.formats == ("parquet",)
    assert 0 < manifest.totals["live_rows"] < manifest.totals["rows"]  # the duplicate lies in its shard, not live
    assert "NOASSERTION" not in manifest.totals["licences"]


def test_a_folder_without_a_catalog_ends_with_2_and_the_command_that_makes_one(
    spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--catalog", str(tmp_path / "none"), "--manifest", str(tmp_path / "manifest.json"), *COMMERCIAL]
    assert publish(flags) == 2
    assert "licet ingest-images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_purpose_that_lets_nothing_through_publishes_nothing(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deny = ["--policy.overrides.licence-free", "deny", "--policy.overrides.licence-with-obligations", "deny"]
    target = tmp_path / "manifest.json"
    assert publish(["--catalog", f"{published}/catalog", "--manifest", str(target), *COMMERCIAL, *deny]) == 3
    assert "Nothing was published" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_manifest_whose_root_was_not_written_is_not_there(published: Path, tmp_path: Path) -> None:
    kill_file = tmp_path / "kill-at"
    kill_file.write_text("manifest page written, no root")
    target = tmp_path / "out" / "manifest.json"
    shutil.copytree(published, tmp_path / "out")
    target.unlink()
    flags = ["--catalog", str(tmp_path / "out/catalog"), "--manifest", str(target), *COMMERCIAL]
    command = [sys.executable, "-m", "jobs.publish", *flags]
    killed = subprocess.run(command, env={**os.environ, "LICET_KILL_AT": str(kill_file)}, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert not target.exists()
    assert publish(flags) == 0
    assert read_manifest(target).identity == read_manifest(published / "manifest.json").identity
