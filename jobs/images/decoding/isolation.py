"""Work on hostile bytes in processes that may die: a decoder that crashes, spins or swallows memory costs one job.

    isolated = isolated_for("jobs.images.pixels.transform:worker", spec)     one for each process and arguments
    isolated.run(data, job) -> dict | Crash                                  from any number of threads

A zygote (`zygote.py`, a process of its own that has one thread) imports the worker once and forks the children; a child
serves jobs until one kills it, and its successor is there within milliseconds. Linux only. Knows nothing of images.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from jobs.images.decoding import wire
from licet.errors import PlatformError

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from jobs.images.decoding.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_ENVIRONMENT = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")} | {
    # One heap that is not given back after each image: saves 270 page faults, some 0.7 ms of processor time, a photo.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
_START_S = 120.0
"""How long the zygote may take to import the worker."""
_ATTEMPTS = 3
_AGAIN = frozenset({"decoder-crashed", "decoder-memory"})
"""What an earlier job in the same child may have caused: tried once more in a fresh one."""


@dataclass(frozen=True)
class Crash:
    """A job whose process did not answer. `reason` is a key of `reasons.REASONS`."""

    reason: str
    detail: str


_LOST = Crash("decoder-crashed", "the process that forks the decoders ended, again and again")
"""Not the job's fault: tried again as long as there are attempts."""


class Isolated:
    """A pool of confined processes that call one function.

    `worker` names a factory, `package.module:function`: it is called with `spec` once, in the zygote, and gives the
    function `(data: bytes, job: dict) -> dict` that every job is; specs, jobs and results are what msgpack can carry.
    A job may take `cpu_s` of processor time, `wall_s` of time, and `memory_bytes` beyond what its process had at first.
    """

    def __init__(
        self,
        worker: str,
        spec: Mapping[str, Any] | None = None,
        *,
        memory_bytes: int = 1 << 30,
        cpu_s: float = 20.0,
        wall_s: float | None = None,
        processes: int = 1,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._config: dict[str, Any] = {
            "worker": worker,
            "spec": dict(spec or {}),
            "memory_bytes": memory_bytes,
            "cpu_s": cpu_s,
        }
        self._wall_s = 3 * cpu_s if wall_s is None else wall_s
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self.closed = False
        self._zygote: _Zygote | None = _Zygote(self._config)
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        self._all = [_Slot() for _ in range(processes)]
        for slot in self._all:
            self._slots.put(slot)
        _LIVE.add(self)

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, data: bytes, job: Mapping[str, Any] | None = None) -> dict[str, Any] | Crash:
        """One job, when a process is free. Raises `PlatformError` when processes cannot be started at all."""
        if os.getpid() != self._owner:
            raise RuntimeError("this pool belongs to the process that was forked from: use isolated_for")
        request = wire.request(data, job or {})
        slot = self._slots.get()
        try:
            for _ in range(_ATTEMPTS):
                fresh = self._ready(slot)
                outcome = self._ask(slot, request)
                if not isinstance(outcome, Crash) or (outcome is not _LOST and (fresh or outcome.reason not in _AGAIN)):
                    break
            return outcome
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """End all processes. Jobs that are under way end as crashes."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            zygote, self._zygote = self._zygote, None
            self.closed = True
        if zygote is not None:
            zygote.close()
        for slot in self._all:
            slot.forget()

    def forget(self) -> None:
        """In a forked copy of the owner: let go of descriptors that are not this process's to keep."""
        if self._zygote is not None:
            self._zygote.control.close()
        for slot in self._all:
            slot.forget()

    def _ready(self, slot: _Slot) -> bool:
        """See that the slot has a child that waits for a job; whether it is a new one."""
        if slot.child is not None:
            if not _has_something(slot.child.connection):
                return False
            self._end(slot, kill=True)  # it died, or wrote, between two jobs
        for attempt in (1, 2):
            zygote = self._current()
            try:
                slot.child = zygote.fork()
                return True
            except (OSError, EOFError) as error:
                said = zygote.last_words()
                self._drop(zygote)
                if attempt == 2:
                    raise PlatformError(f"No decoding process can be started: {error}. {said}") from error
        raise AssertionError("unreachable")

    def _ask(self, slot: _Slot, request: tuple[bytes, bytes]) -> dict[str, Any] | Crash:
        child = slot.child
        assert child is not None
        give_up_at = time.monotonic() + self._wall_s
        child.jobs += 1
        try:
            child.connection.settimeout(self._wall_s)
            wire.send(child.connection, child.jobs, *request)
            _, answer = wire.receive(child.connection, self._memory_bytes, child.jobs, give_up_at)
            if "result" in answer:
                result: dict[str, Any] = answer["result"]
                return result
            crash = Crash(answer["reason"], answer["detail"])
            self._end(slot, kill=True)
            return crash
        except TimeoutError:
            self._end(slot, kill=True)
            return Crash("decoder-stalled", f"no answer within {self._wall_s:g} s")
        except (wire.WireError, KeyError, TypeError) as error:
            self._end(slot, kill=True)
            return Crash("decoder-crashed", f"answered garbage: {error}"[:300])
        except (EOFError, ConnectionError):
            return _cause(self._end(slot, kill=False), self._memory_bytes)

    def _end(self, slot: _Slot, kill: bool) -> dict[str, int]:
        """Reap the slot's child: how it ended. Empty when the zygote went before it."""
        child = slot.child
        assert child is not None
        zygote = child.zygote
        slot.forget()
        try:
            return zygote.end(child.pid, kill)
        except (OSError, EOFError):
            self._drop(zygote)
            return {}

    def _current(self) -> _Zygote:
        with self._lock:
            if self.closed:
                raise RuntimeError("this pool is closed")
            if self._zygote is None:
                self._zygote = _Zygote(self._config)
            return self._zygote

    def _drop(self, zygote: _Zygote) -> None:
        with self._lock:
            if self._zygote is zygote:
                self._zygote = None
        zygote.close()


def isolated_for(worker: str, spec: Mapping[str, Any] | None = None, **limits: Any) -> Isolated:
    """The one pool of this process with these arguments (`Isolated`'s). A forked process gets its own."""
    key = (worker, json.dumps([spec or {}, limits], sort_keys=True))
    with _REGISTRY.lock:
        if key not in _REGISTRY.pools or _REGISTRY.pools[key].closed:
            _REGISTRY.pools[key] = Isolated(worker, spec, **limits)
        return _REGISTRY.pools[key]


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pools: dict[tuple[str, str], Isolated] = {}


_REGISTRY = _Registry()

_LIVE: weakref.WeakSet[Isolated] = weakref.WeakSet()


def _after_fork() -> None:
    """A forked copy must not keep the sockets open: their end is what tells the children that their owner is gone."""
    for pool in list(_LIVE):
        pool.forget()
    _REGISTRY.lock, _REGISTRY.pools = threading.Lock(), {}


def _at_exit() -> None:
    for pool in list(_LIVE):
        pool.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


class _Slot:
    """Room for one child."""

    def __init__(self) -> None:
        self.child: _Child | None = None

    def forget(self) -> None:
        if self.child is not None:
            self.child.connection.close()
            self.child = None


@dataclass
class _Child:
    pid: int
    connection: socket.socket
    zygote: _Zygote
    jobs: int = 0


class _Zygote:
    """The parent's side of the zygote. Raises `OSError` or `EOFError` when it is gone."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the zygote
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [os.path.abspath(path) for path in sys.path]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(paths)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,
            )
        self._started = False
        self.control.settimeout(_START_S)
        with contextlib.suppress(BrokenPipeError):  # it is gone already: fork() will say why
            self.control.send(msgpack.packb(config))

    def fork(self) -> _Child:
        """A fresh child. The first call waits for the imports."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if not self._started:
                self._answer()
                self._started = True
            socket.send_fds(self.control, [msgpack.packb({"start": True})], [theirs.fileno()])
            pid = self._answer()["pid"]
        return _Child(pid, ours, self)

    def end(self, pid: int, kill: bool) -> dict[str, int]:
        with self._lock:
            self.control.send(msgpack.packb({"end": pid, "kill": kill}))
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        packed = self.control.recv(wire.MAX_CONTROL_BYTES)
        if not packed:
            raise EOFError("the process that forks the decoders has ended")
        answer: dict[str, Any] = msgpack.unpackb(packed)
        return answer

    def last_words(self) -> str:
        """The end of what the zygote wrote to its standard error."""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._stderr.tell() - 2000, 0))
        return self._stderr.read().decode(errors="replace").strip()

    def close(self) -> None:
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


def _has_something(connection: socket.socket) -> bool:
    """Whether bytes, or the end, wait to be read."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _cause(end: Mapping[str, int], memory_bytes: int) -> Crash:
    """What a child died of. One that had taken nearly all its memory died of that, whatever the signal was."""
    if not end:
        return _LOST
    peak = f"peak {end['peak_bytes'] >> 20} MiB"
    code = os.waitstatus_to_exitcode(end["status"])
    how = f"died of {signal.Signals(-code).name}, {peak}" if code < 0 else f"exited with status {code}, {peak}"
    if -code in (signal.SIGPROF, signal.SIGXCPU):
        return Crash("decoder-timeout", f"took more processor time than its limit, {peak}")
    if -code == signal.SIGKILL or end["peak_bytes"] > 0.8 * memory_bytes:
        return Crash("decoder-memory", how)
    return Crash("decoder-crashed", how)
