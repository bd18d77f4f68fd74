"""How work units are run. An engine knows nothing of the work: it calls a function on each unit and hands back reports.

    for done in engine.run(work, units): ...       a report as each unit finishes, or a `Failure`

A unit may be attempted more than once and may even report twice: who receives reports keeps the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def attempt(work: Callable[[Unit], Report], unit: Unit) -> Future[str]:
    """In a worker: call `work` once, in a thread that ends with it; a future that is done, of the report as JSON.

    Whatever `work` raises is in the future, and so is a report that is no JSON.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="licet-unit") as thread:
        return thread.submit(lambda: json.dumps(work(unit)))


def answer(work: Callable[[Unit], Report], unit: Unit) -> str:
    """In a worker: call `work` once and say as JSON what came of it, `{"report": …}` or `{"failed": "one line"}`.

    Text, because an exception that cannot be unpickled would break the receiver.
    """
    done = attempt(work, unit)
    error = done.exception()
    return json.dumps({"failed": one_line(error)}) if error else f'{{"report": {done.result()}}}'
