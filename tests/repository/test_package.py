"""What is installed is what is here: every package, every config, the base model."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy: a build leaves files in its folder."""
    target, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("copy")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, copy],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    [path] = target.glob("licet-*.whl")
    return zipfile.ZipFile(path)


def test_setup_cfg_names_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = set(config["options"]["packages"].split())
    found = {
        ".".join(folder.relative_to(ROOT).parts)
        for top in ("licet", "jobs", "lightning_modules")
        for folder in [ROOT / top, *(ROOT / top).rglob("*")]
        if folder.is_dir() and any(folder.glob("*.py"))
    }
    configs = {"licet.configs"} | {f"licet.configs.{p.name}" for p in (ROOT / "configs").iterdir() if p.is_dir()}
    assert found | configs == named


def test_the_wheel_holds_every_module_and_config(wheel):
    names = set(wheel.namelist())
    for top in ("licet", "jobs", "lightning_modules"):
        for path in (ROOT / top).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in names
    configs = list((ROOT / "configs").rglob("*.yaml"))
    assert configs
    for path in configs:
        assert f"licet/configs/{path.relative_to(ROOT / 'configs').as_posix()}" in names


def test_the_wheel_holds_the_base_model_and_the_report_template(wheel):
    names = wheel.namelist()
    weights = [n for n in names if n.startswith("lightning_modules/assets/tiny_sd/") and n.endswith(".safetensors")]
    assert len(weights) == 3  # text encoder, U-Net, autoencoder
    assert "lightning_modules/assets/tiny_sd/model_index.json" in names
    assert any(n.startswith("jobs/report/") and not n.endswith(".py") for n in names)


def test_the_repository_holds_no_pickle_and_no_machine_path():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "README.md" in tracked
    for name in tracked:
        assert not name.endswith((".pkl", ".pt", ".bin", ".ckpt", ".jar", ".whl")), name
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".cfg", ".toml", ".sh", ".ipynb"} and path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert "/work/" not in text, name
            if not name.startswith("tests/"):  # a test makes one, to see it refused
                assert not re.search(r"pickle\.(load|loads|dump|dumps)\(", text), name


def test_the_archive_for_py_files_imports_without_an_installation(tmp_path):
    archive = tmp_path / "licet.zip"
    subprocess.run([sys.executable, "-m", "scripts.pyfiles", archive], cwd=ROOT, check=True)
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); import jobs, licet.manifest; print(licet.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert str(archive) in result.stdout, result.stderr
