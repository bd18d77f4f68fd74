"""How a typed function or a dataclass becomes a command line: flags, `--config FILE.yaml`, `--help`.

Docstrings give the help; the types give the checks. Wrong flags are a `UsageError`, which ends with exit code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from licet.errors import UsageError

Result = TypeVar("Result")


def call_with_flags(
    target: Callable[..., Result], arguments: Sequence[str], name: str, description: str | None = None
) -> Result:
    """Call a typed function, or make a dataclass, with values from `--config FILE.yaml` and flags, which win.

    Raises `UsageError` for what cannot be understood; prints help and leaves for `--help`.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    summary = description or (target.__doc__ or "").split("\n")[0]
    parser = ArgumentParser(prog=f"licet {name}", exit_on_error=False, description=summary)
    parser.add_argument("--config", action="config", help="YAML file with any of the flags below")
    if isinstance(target, type):
        parser.add_class_arguments(target)
    else:
        parser.add_function_arguments(target)
    try:
        values: Any = parser.instantiate(parser.parse_args(list(arguments)))
    except ArgumentError as error:
        raise UsageError(f"{name}: {error.message} (`licet {name} --help` lists the flags)") from error
    return target(**{key: value for key, value in values.as_dict().items() if key != "config"})
