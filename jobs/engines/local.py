"""Work units in processes of this machine. A worker that dies is noticed, and its unit is tried again.

Each worker has a pipe of its own: the death of one touches no other unit, and a unit that kills every worker that it
meets fails alone. Workers are spawned, not forked, so threads of the parent do no harm.

Knows processes; knows nothing of the work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

from jobs.engines import Failure, Report, Unit, answer

_LOOK_S = 1.0
"""How often deaths are looked for that the pipe does not tell: a grandchild may hold its other end open."""
_END_S = 5.0
"""What a worker without a unit is given to end by itself."""


class LocalEngine:
    """`processes` workers, `attempts` tries for each unit."""

    def __init__(self, processes: int = 2, attempts: int = 4) -> None:
        self.processes, self.attempts = processes, attempts

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """See `Engine.run`."""
        waiting = deque(range(len(units)))
        failed: Counter[int] = Counter()
        workers: list[_Worker] = []
        try:
            workers += [_Worker(work) for _ in range(min(self.processes, len(units)))]
            while waiting or any(worker.number is not None for worker in workers):
                for place, worker in enumerate(workers):
                    if waiting and worker.number is None:
                        if not worker.give(waiting[0], units[waiting[0]]):
                            workers[place] = _Worker(work)  # it died idle: no unit is to blame
                            continue
                        waiting.popleft()
                for number, said in self._answers(work, workers):
                    if "report" in said:
                        yield said["report"]
                        continue
                    failed[number] += 1
                    if failed[number] < self.attempts:
                        waiting.append(number)
                    else:
                        yield Failure(units[number], said["failed"])
        finally:
            for worker in workers:
                worker.stop()

    def _answers(self, work: Callable[[Unit], Report], workers: list[_Worker]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(unit's number, what came of it) of those that have ended; waits for one. Dead workers are replaced."""
        busy = [worker for worker in workers if worker.number is not None]
        ready = wait_for([worker.pipe for worker in busy], timeout=_LOOK_S) if busy else []
        for worker in busy:
            if worker.pipe not in ready and worker.alive():
                continue
            number, said = worker.take()
            if not worker.alive():
                worker.stop()
                workers[workers.index(worker)] = _Worker(work)
            yield number, said


class _Worker:
    """The parent's side of one process."""

    def __init__(self, work: Callable[[Unit], Report]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.number: int | None = None
        """The unit under way."""
        self._process = context.Process(target=_serve, args=(other, work), name="licet-worker", daemon=False)
        self._process.start()
        other.close()

    def alive(self) -> bool:
        return self._process.is_alive()

    def give(self, number: int, unit: Any) -> bool:
        """Hand a unit over; False when the process is no more."""
        try:
            self.pipe.send(unit)
        except (BrokenPipeError, ConnectionResetError):
            self.stop()
            return False
        self.number = number
        return True

    def take(self) -> tuple[int, dict[str, Any]]:
        """The unit that was under way and what came of it; waits for the end of a process that said nothing."""
        assert self.number is not None
        number, self.number = self.number, None
        try:
            return number, json.loads(self.pipe.recv()) if self.pipe.poll() else self._died()
        except (EOFError, OSError):
            return number, self._died()

    def _died(self) -> dict[str, Any]:
        self.stop()
        code = self._process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return {"failed": f"its process died ({how})"}

    def stop(self) -> None:
        """End the process: at once if it has a unit, which nobody waits for any more."""
        self.pipe.close()
        if self.number is None:
            self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _serve(pipe: Connection, work: Callable[[Unit], Report]) -> None:
    """A worker's life: one answer for each unit, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with_parent()
    while True:
        try:
            unit = pipe.recv()
        except EOFError:
            return
        pipe.send(answer(work, unit))


def _die_with_parent() -> None:
    """In a worker: end when the parent ends, however it ended. Otherwise the worker would finish its unit first."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="licet-watch-parent", daemon=True).start()
