"""Every YAML under configs/ is loaded by the command or the reader that it is for."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from licet.cli import main
from licet.sources import load_source

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SOURCES = [p for p in CONFIGS if p.parent.name == "sources"]
OTHERS = [p for p in CONFIGS if p.parent.name != "sources"]
COMMANDS = {point.name for point in entry_points(group="licet.commands")}


def command_of(config: Path) -> list[str]:
    """configs/jobs/<command>.yaml, configs/train/*.yaml, configs/sample/*.yaml."""
    if config.parent.name == "jobs":
        return [config.stem.replace("_", "-")]
    return {"train": ["train", "fit"], "sample": ["sample"]}[config.parent.name]


def test_each_command_has_a_config():
    assert len(SOURCES) >= 1
    assert {command_of(p)[0] for p in OTHERS} == COMMANDS


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_a_source_config_loads(path):
    assert load_source(path).id


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_command_accepts_its_config(path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command_of(path), "--config", str(path), "--print_config"])
    assert stop.value.code in (0, None)
    assert capsys.readouterr().out.strip()
