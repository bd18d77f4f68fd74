"""The `licet` command: finds its subcommands by the entry-point group `licet.commands` and runs one.

It imports a subcommand's module only to run it, so `licet --help` needs neither Spark nor torch.
Every entry point, however it was started, goes through `run_command`: one sentence for a person, the exit codes of
`licet.errors`, and the stack trace only with --debug.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from licet import __version__
from licet.errors import LicetError, MissingExtraError

Command = Callable[[Sequence[str]], int]

EXTRA_OF_LIBRARY = {
    "pyspark": "spark",
    "delta": "spark",
    "deltalake": "spark",
    "jinja2": "spark",
    "imagehash": "spark",
    "PIL": "spark",
    "requests": "spark",
    "tqdm": "spark",
    "torch": "train",
    "pytorch_lightning": "train",
    "diffusers": "train",
    "transformers": "train",
    "peft": "train",
    "tensorboard": "train",
    "lmdb": "lmdb",
    "ray": "ray",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `licet <command> …`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {point.name: point for point in entry_points(group="licet.commands")}
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_usage(commands))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"licet {__version__}\n")
        return 0
    name, *rest = arguments
    if name not in commands:
        sys.stderr.write(f"licet: there is no command {name!r}: choose from {', '.join(sorted(commands))}.\n")
        return 2
    return run_command(lambda args: int(commands[name].load()(args)), rest)


def run_command(command: Command, argv: Sequence[str]) -> int:
    """Run an entry point's `command(arguments)` and turn errors into a sentence and an exit code.

    `--debug` anywhere in the arguments, or LICET_DEBUG=1, shows the stack trace as well.
    """
    arguments = [a for a in argv if a != "--debug"]
    if len(arguments) < len(argv):
        os.environ["LICET_DEBUG"] = "1"  # for whatever this command starts
    debug = os.environ.get("LICET_DEBUG") == "1"
    try:
        return command(with_packaged_configs(arguments))
    except (LicetError, ModuleNotFoundError, OSError, KeyboardInterrupt) as error:
        told = _sentence(error)
        if told is None:
            raise
        if debug:
            traceback.print_exception(error)
        sentence, exit_code = told
        sys.stderr.write(f"licet: {sentence}\n")
        return exit_code


def _sentence(error: BaseException) -> tuple[str, int] | None:
    """What a person is told, and the exit code; nothing for an error that only its stack trace explains."""
    if isinstance(error, LicetError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped by the keyboard; run the same command again to go on.", 1
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRA_OF_LIBRARY.get((error.name or "").split(".")[0])
        return _sentence(MissingExtraError(error.name or "", extra)) if extra else None
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: {error.filename or 'no file named'}. --debug shows where.", 1
    return None


def with_packaged_configs(arguments: Sequence[str]) -> list[str]:
    """`--config configs/jobs/x.yaml` means the file that was installed with licet where no such file lies here."""
    resolved = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            resolved[place + 1] = _packaged(arguments[place + 1])
        elif argument.startswith("--config="):
            resolved[place] = "--config=" + _packaged(argument.removeprefix("--config="))
    return resolved


def _packaged(path: str) -> str:
    if not path.startswith("configs/") or Path(path).exists() or not importlib.util.find_spec("licet.configs"):
        return path
    installed = resources.files("licet.configs").joinpath(path.removeprefix("configs/"))
    return str(installed) if installed.is_file() else path


def _usage(commands: dict[str, EntryPoint]) -> str:
    lines = ["usage: licet <command> [options]      licet <command> --help", "", "commands:"]
    lines += [f"  {name:<15} {_summary(point)}" for name, point in sorted(commands.items())]
    lines += ["", "Every command takes --config FILE.yaml and --debug.", ""]
    return "\n".join(lines)


def _summary(point: EntryPoint) -> str:
    """First line of the module's docstring, read without importing the module."""
    spec = importlib.util.find_spec(point.module)
    if spec is None or spec.origin is None:
        return ""
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").split("\n")[0]
