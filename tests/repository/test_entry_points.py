"""Each command exists six ways: licet, python -m, spark-submit (Spark half), console script, config, test."""

import ast
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMMANDS = {point.name: point for point in entry_points(group="licet.commands")}
HELP = {"train": ["fit", "--help"]}


def module_file(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def run_help(*command: object) -> str:
    activated = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # spark-submit looks for python3 there
    result = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=activated, capture_output=True, text=True, timeout=180
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_five_commands_are_there():
    assert set(COMMANDS) == {"ingest-images", "publish", "audit", "train", "sample"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_answers_help_as_licet_and_as_a_module(name):
    rest = HELP.get(name, ["--help"])
    as_licet = run_help(BIN / "licet", name, *rest)
    as_module = run_help(sys.executable, "-m", COMMANDS[name].module, *rest)
    assert "--config" in as_licet
    assert "--config" in as_module


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_has_a_script_a_config_and_a_test(name):
    scripts = {point.name: point.value for point in entry_points(group="console_scripts")}
    point = COMMANDS[name]
    assert scripts[f"licet-{name}"] == f"{point.module}:main"
    folder, stem = point.module.split(".")
    configs = {"jobs": [ROOT / f"configs/jobs/{stem}.yaml"]}.get(
        folder, sorted((ROOT / f"configs/{stem}").glob("*.yaml"))
    )
    assert configs
    assert all(config.is_file() for config in configs)
    assert (ROOT / f"tests/{folder}/test_{stem}.py").is_file()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_entry_module_defines_no_class(name):
    """`__main__` on an executor is another module: a class defined in an entry file cannot be unpickled there."""
    tree = ast.parse(module_file(COMMANDS[name].module).read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == []


@pytest.mark.parametrize("name", [n for n, p in COMMANDS.items() if p.module.startswith("jobs.")])
def test_spark_submit_runs_a_job(name):
    file = module_file(COMMANDS[name].module)
    assert "--config" in run_help(BIN / "spark-submit", "--master", "local[1]", file, "--help")


@pytest.mark.parametrize("folder", ["jobs", "lightning_modules"])
def test_no_file_at_a_root_shadows_a_library(folder):
    stems = {p.stem for p in (ROOT / folder).glob("*.py")}
    assert stems.isdisjoint({"queue", "ray", "pyspark", "delta", "torch", "lmdb", "requests"})
