"""The README's commands are understood, its example loads, its links lead somewhere."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from licet.cli import main
from licet.sources import load_source

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
PAGES = sorted(p for p in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_readme_shows_commands():
    assert {shlex.split(line)[0] for line in LINES} == {"make", "licet"}
    assert {shlex.split(line)[1] for line in LINES if line.startswith("licet")} == {
        "ingest-images", "publish", "audit", "train", "sample",
    }  # fmt: skip


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_make_knows_the_target(line):
    result = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("licet")])
def test_licet_understands_the_line(line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main([*shlex.split(line)[1:], "--print_config"])
    assert stop.value.code in (0, None)
    assert capsys.readouterr().out


def test_the_example_source_loads(tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "my-photos.yaml"
    path.write_text(example)
    assert load_source(path).columns["url"] == "image_url"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_readme_holds_no_placeholder():
    assert "@@" not in README
