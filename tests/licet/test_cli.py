"""The `licet` command: commands are found by entry point, and errors become a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from licet import __version__
from licet.cli import main, run_command
from licet.errors import ConfigError, LicetError, PlatformError, PolicyRefusedError, ShardDamagedError

COMMAND = '''"""Greet the person named, or fail as asked.

More lines, which the list of commands leaves out.
"""
from licet.errors import PolicyRefusedError

def command(arguments):
    if arguments == ["refuse"]:
        raise PolicyRefusedError("the policy says no.")
    if arguments == ["import"]:
        import pyspark_is_absent
    print("hello", *arguments)
    return len(arguments)
'''


@pytest.fixture
def licet(tmp_path: Path):
    """Run the real command in a process in which a distribution has registered `greet`."""
    (tmp_path / "greeting.py").write_text(COMMAND)
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[licet.commands]\ngreet = greeting:command\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "import sys; from licet.cli import main; sys.exit(main())", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_command_runs_with_its_arguments_and_its_exit_code(licet) -> None:
    done = licet("greet", "Zoë", "Åsa")
    assert (done.returncode, done.stdout, done.stderr) == (2, "hello Zoë Åsa\n", "")


def test_help_lists_commands_with_the_first_line_of_their_modules(licet) -> None:
    done = licet("--help")
    assert done.returncode == 0
    assert "  greet           Greet the person named, or fail as asked.\n" in done.stdout
    assert "More lines" not in done.stdout


def test_no_command_is_bad_usage_and_shows_help(licet) -> None:
    done = licet()
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, licet("-h").stdout.splitlines()[0])


def test_an_unknown_command_is_bad_usage_and_names_the_known(licet) -> None:
    done = licet("greeet")
    assert done.returncode == 2
    assert done.stderr.startswith("licet: there is no command 'greeet': choose from ")
    assert "greet" in done.stderr.split("choose from")[1]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"licet {__version__}\n"


def test_an_error_is_one_sentence_and_debug_shows_the_stack(licet) -> None:
    done = licet("greet", "refuse")
    assert (done.returncode, done.stderr) == (3, "licet: the policy says no.\n")
    debug = licet("greet", "refuse", "--debug")
    assert debug.returncode == 3
    assert "Traceback" in debug.stderr
    assert "in command" in debug.stderr


def test_a_module_that_no_extra_brings_is_a_bug_and_shows_its_stack(licet) -> None:
    done = licet("greet", "import")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LicetError("a."), 1),
        (PlatformError("a."), 1),
        (ShardDamagedError("s", "record 1", "torn"), 1),
        (ConfigError("f.yaml", 3, "a", "b"), 2),
        (PolicyRefusedError("a."), 3),
        (KeyboardInterrupt(), 1),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1),
        (ModuleNotFoundError("gone", name="pyspark.sql"), 2),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: Sequence[str]) -> int:
        raise error

    assert run_command(command, []) == code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("library", "extra"), [("pyspark", "spark"), ("torch", "train"), ("lmdb", "lmdb"), ("ray", "ray")]
)
def test_a_missing_library_names_the_extra_to_install(
    library: str, extra: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # Python's own way to say that a module cannot be imported

    def command(arguments: Sequence[str]) -> int:
        __import__(library)
        return 0

    assert run_command(command, []) == 2
    assert capsys.readouterr().err == f"licet: {library} is not installed: run `pip install 'licet[{extra}]'`.\n"


def test_debug_is_taken_out_of_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICET_DEBUG", "0")  # --debug sets it for the whole process
    seen: list[str] = []
    assert run_command(lambda arguments: seen.extend(arguments) or 0, ["a", "--debug", "b"]) == 0
    assert seen == ["a", "b"]


def test_debug_by_environment_shows_the_stack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LICET_DEBUG", "1")

    def command(arguments: Sequence[str]) -> int:
        raise PlatformError("no Java.")

    assert run_command(command, []) == PlatformError.exit_code
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("licet: no Java.\n")
