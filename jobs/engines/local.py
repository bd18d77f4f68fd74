"""Work units in processes of this machine. A worker that dies is noticed, and its unit is tried again.

Knows processes; knows nothing of the work.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from jobs.engines import Failure, Report, Unit, one_line


class LocalEngine:
    """`processes` workers, `attempts` tries for each unit."""

    def __init__(self, processes: int = 2, attempts: int = 4) -> None:
        self.processes, self.attempts = processes, attempts

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """See `Engine.run`. Only as many units are handed out as there are workers, so a dead worker names few."""
        waiting = deque(range(len(units)))
        failed: Counter[int] = Counter()
        pool = self._pool()
        running: dict[Future[Report], int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.processes:
                    number = waiting.popleft()
                    running[pool.submit(work, units[number])] = number
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                broken = False
                for future in done:
                    number = running.pop(future)
                    error = future.exception()
                    if error is None:
                        yield future.result()
                        continue
                    broken = broken or isinstance(error, BrokenProcessPool)
                    failed[number] += 1
                    if failed[number] < self.attempts:
                        waiting.append(number)
                    else:
                        yield Failure(units[number], one_line(error))
                if broken:
                    # The other workers were stopped with the dead one: their units are not to blame.
                    waiting.extend(running.values())
                    running.clear()
                    pool.shutdown(wait=True)
                    pool = self._pool()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.processes, mp_context=context, initializer=_die_with_parent)


def _die_with_parent() -> None:
    """In a worker: end when the parent ends, however it ended. Otherwise the worker would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="licet-watch-parent", daemon=True).start()
