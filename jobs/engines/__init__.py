"""How work units are run. An engine knows nothing of the work: it calls a function on each unit and hands back reports.

    for done in engine.run(work, units): ...       a report as each unit finishes, or a `Failure`

A unit may be attempted more than once and may even report twice: who receives reports keeps the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Unit = TypeVar("Unit")
Report = dict[str, Any]
"""Plain JSON values: it crosses processes as text."""


@dataclass(frozen=True)
class Failure:
    """A unit that failed as often as was allowed."""

    unit: Any
    error: str
    """The last attempt's error, in one line."""


class Engine(Protocol):
    """Runs units side by side."""

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """Call `work` on every unit; yield as they finish, in no particular order."""


def one_line(error: BaseException) -> str:
    """An error as a failure shows it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
