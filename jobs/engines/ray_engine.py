"""Work units as tasks of Ray: processes of this machine, or of a cluster that grows and shrinks while they run.

At most two units for each core of the cluster are handed out, and the cores are counted again as it changes: what
waits makes an autoscaler add nodes, and the driver holds no more than that. A node that goes away costs its running
units one try, which is not held against them; a unit that raises, or whose process dies, is tried `attempts` times.

Knows Ray (the extra `ray`); knows nothing of the work. The file is not called `ray.py`, which would hide the library.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobs.engines import Failure, Report, Unit, answer, one_line
from licet.errors import LicetError, MissingExtraError

_LOG = logging.getLogger(__name__)
_UNITS_PER_CPU = 2
_CONNECT_S = 10.0
_COUNT_AGAIN_S = 2.0
"""How often the cluster's cores are counted, and the longest wait for an answer."""
_LOST_NODES = 20
"""Nodes that may go away under one unit before it is thought to be the cause."""
_OBJECT_STORE_BYTES = 80 << 20
"""Units and reports are small, so a Ray that is started here needs next to nothing (its minimum is 75 MiB)."""


class RayEngine:
    """Runs units on the Ray at `address`, or on one with `processes` cores that is started here and stopped at the end.

    `modules` are folders of packages that the cluster's nodes get for this run; leave it empty where they have them.
    """

    def __init__(self, address: str = "", processes: int = 0, attempts: int = 4, modules: Sequence[str] = ()) -> None:
        self.address, self.processes, self.attempts = address, processes, attempts
        self.modules = list(modules)

    def run(self, work: Callable[[Unit], Report], units: Sequence[Unit]) -> Iterator[Report | Failure]:
        """See `Engine.run`. Raises `MissingExtraError` without Ray, `LicetError` when the cluster cannot be reached."""
        if not units:
            return
        with self._connected() as ray:
            tries = _Tries(ray, work, units)
            failed: Counter[int] = Counter()
            lost: Counter[int] = Counter()
            try:
                while tries.unfinished:
                    for number, said in tries.step():
                        if "report" in said:
                            yield said["report"]
                            continue
                        counter, limit = (lost, _LOST_NODES) if "lost" in said else (failed, self.attempts)
                        counter[number] += 1
                        if counter[number] < limit:
                            tries.again(number)
                        else:
                            yield Failure(units[number], said.get("failed") or said["lost"])
            finally:
                tries.stop()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Ray, for as long as the units run; one that the program started before is used and left running."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers about this run
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about GPUs
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtraError("ray", "ray") from error
        if ray.is_initialized():
            yield ray
            return
        _require_reachable(self.address)
        with _hushed(ray):
            try:
                ray.init(**self._settings())
            except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                where = f"Ray at {self.address!r} cannot be joined" if self.address else "Ray cannot start here"
                raise LicetError(f"{where}: {one_line(error)}") from error
            try:
                yield ray
            finally:
                ray.shutdown()

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"log_to_driver": _debug(), "include_dashboard": False, "namespace": "licet"}
        settings["logging_level"] = logging.INFO if _debug() else logging.CRITICAL
        if self.address in ("", "local"):
            settings["runtime_env"] = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
            cores = self.processes or os.cpu_count() or 1
            return settings | {"address": "local", "num_cpus": cores, "object_store_memory": _OBJECT_STORE_BYTES}
        del settings["include_dashboard"]  # the cluster's own affair
        if self.modules:
            settings["runtime_env"] = {"py_modules": self.modules}
        return settings | {"address": self.address}


def _require_reachable(address: str) -> None:
    """Raise `LicetError` when nobody listens at host:port: Ray itself would try for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise LicetError(f"no Ray answers at {address}: {one_line(error)}. Is its head running?") from error


@contextmanager
def _hushed(ray: Any) -> Iterator[None]:
    """Ray prints 20 lines for each dead worker or node, and no setting stops it: they go to the debug log instead."""
    worker = getattr(getattr(ray, "_private", None), "worker", None)  # private, so it may go away; then Ray talks
    printer = getattr(worker, "print_to_stdstream", None)
    if _debug() or worker is None or printer is None:
        yield
        return
    worker.print_to_stdstream = lambda data, **_: _LOG.debug("%s", data)
    try:
        yield
    finally:
        worker.print_to_stdstream = printer


def _debug() -> bool:
    return os.environ.get("LICET_DEBUG") == "1"


class _Tries:
    """Units that wait and units that run. A try ends as report, as failure, or is lost with its node."""

    def __init__(self, ray: Any, work: Callable[[Unit], Report], units: Sequence[Unit]) -> None:
        self._ray, self._work, self._units = ray, work, units
        self._waiting = deque(range(len(units)))
        self._running: dict[Any, int] = {}
        # Ray's own retries are off: it would not tell a lost node from a unit that kills its process.
        self._task = ray.remote(num_cpus=1, max_retries=0)(answer)
        self._limit, self._counted_at = 0, -_COUNT_AGAIN_S

    @property
    def unfinished(self) -> int:
        return len(self._waiting) + len(self._running)

    def again(self, number: int) -> None:
        """Have a unit tried once more, after those that wait."""
        self._waiting.append(number)

    def stop(self) -> None:
        """End what runs: nobody waits for it any more."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)

    def step(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Hand out what may be handed out, and yield what has ended by then; waits a moment for the first."""
        if time.monotonic() - self._counted_at >= _COUNT_AGAIN_S:
            self._limit = max(1, int(_UNITS_PER_CPU * self._ray.cluster_resources().get("CPU", 0)))
            self._counted_at = time.monotonic()
        while self._waiting and len(self._running) < self._limit:
            number = self._waiting.popleft()
            self._running[self._task.remote(self._work, self._units[number])] = number
        self._ray.wait(list(self._running), timeout=_COUNT_AGAIN_S)
        ended, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in ended:
            yield self._running.pop(reference), self._said(reference)

    def _said(self, reference: Any) -> dict[str, Any]:
        errors = self._ray.exceptions
        try:
            said: dict[str, Any] = json.loads(self._ray.get(reference))
            return said
        except (errors.NodeDiedError, errors.ObjectLostError) as error:
            return {"lost": f"its node went away: {one_line(error)}"}
        except errors.WorkerCrashedError:
            return {"failed": "its process died"}
        except errors.RayError as error:
            return {"failed": one_line(error)}
