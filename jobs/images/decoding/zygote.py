"""The process that decoding processes are forked from, and what they do. Started by `isolation.py`, not imported.

The zygote has one thread and has imported the worker, so a fork of it is safe and costs milliseconds. It answers on a
control socket: `start` forks a child that serves jobs on the socket sent along; `end` reaps one. It leaves when the
control socket closes or its parent is gone, and the kernel kills its children with it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgpack

from jobs.images.decoding.wire import MAX_CONTROL_BYTES, receive, send

Worker = Callable[[bytes, dict[str, Any]], dict[str, Any]]

_NATURAL_DEATH_S = 0.5
"""How long a child that closed its socket may take to be gone."""
_PARENT_CHECK_S = 1.0
_MAX_FD = 1 << 16
"""Descriptors are closed up to here; the zygote was started with a handful."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def main(control_fd: int, parent: int) -> None:
    """Import, say so, and fork on request until the parent is gone."""
    control = socket.socket(fileno=control_fd)
    config = msgpack.unpackb(control.recv(MAX_CONTROL_BYTES))
    worker = _worker(config["worker"], config["spec"])
    _one_thread()
    gc.collect()
    gc.freeze()
    control.send(msgpack.packb({"ready": os.getpid()}))
    children: set[int] = set()
    try:
        _fork_on_request(control, parent, worker, config, children)
    finally:
        for pid in children:
            _ended(pid, kill=True)


def _fork_on_request(
    control: socket.socket, parent: int, worker: Worker, config: dict[str, Any], children: set[int]
) -> None:
    """Fork and reap children until the control socket closes or the parent is gone."""
    while os.getppid() == parent:
        if not select.select([control], [], [], _PARENT_CHECK_S)[0]:
            continue
        packed, fds, _, _ = socket.recv_fds(control, MAX_CONTROL_BYTES, 1)
        if not packed:
            return
        request = msgpack.unpackb(packed)
        if "end" in request:
            children.discard(request["end"])
            control.send(msgpack.packb(_ended(request["end"], request["kill"])))
            continue
        pid = os.fork()
        if pid == 0:
            _serve(control, socket.socket(fileno=fds[0]), worker, config)
        os.close(fds[0])
        children.add(pid)
        control.send(msgpack.packb({"pid": pid}))


def _worker(name: str, spec: dict[str, Any]) -> Worker:
    """`package.module:function`, called with `spec`."""
    module, _, function = name.partition(":")
    worker: Worker = getattr(importlib.import_module(module), function)(spec)
    return worker


def _one_thread() -> None:
    """OpenCV would start a pool of threads at its first call, in every child. The others obey the environment."""
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.setNumThreads(1)


def _ended(pid: int, kill: bool) -> dict[str, int]:
    """Reap a child, killed at once or when it does not go by itself: its wait status and peak memory in bytes."""
    give_up_at = time.monotonic() + (0 if kill else _NATURAL_DEATH_S)
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return {"status": status, "peak_bytes": usage.ru_maxrss * 1024}
        if time.monotonic() >= give_up_at:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return {"status": status, "peak_bytes": usage.ru_maxrss * 1024}
        time.sleep(0.001)


def _serve(control: socket.socket, connection: socket.socket, worker: Worker, config: dict[str, Any]) -> None:
    """A child's life: one job after the other until the other side closes. Does not return."""
    status = 1
    try:
        zygote = os.getppid()
        control.detach()
        _confine(connection.fileno(), config["memory_bytes"])
        if os.getppid() == zygote:
            _work(connection, worker, config["cpu_s"])
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def _work(connection: socket.socket, worker: Worker, cpu_s: float) -> None:
    while True:
        try:
            number, message = receive(connection, sys.maxsize)
        except (EOFError, ConnectionResetError):
            return
        with _Reporting(connection, number):
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            answer = msgpack.packb({"result": worker(message["data"], message["job"])})
            signal.setitimer(signal.ITIMER_PROF, 0)
        send(connection, number, answer)


def _confine(connection_fd: int, memory_bytes: int) -> None:
    """No file but the socket, no core, no file written, so much memory more than now, and no life after the zygote.

    Standard input, output and error stay open on /dev/null, so that no library prints into another descriptor.
    """
    os.closerange(3, connection_fd)
    os.closerange(connection_fd + 1, _MAX_FD)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _limit(resource.RLIMIT_AS, mapped + memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    os.dup2(0, 2)
    _limit(resource.RLIMIT_FSIZE, 0)


def _limit(what: int, most: int) -> None:
    """Lower a soft limit, where the hard one is not lower already."""
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


class _Reporting:
    """Tells the other side of an exception, then ends this process: nobody knows what state it is in."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self._connection, self._number = connection, number

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit(resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS)[1])  # or there is none left to tell it
        if isinstance(error, SystemExit):
            os._exit(error.code if isinstance(error.code, int) else 1)
        reason = "decoder-memory" if isinstance(error, MemoryError) else "decoder-crashed"
        detail = f"raised {type(error).__name__}: {error}"[:300]
        send(self._connection, self._number, msgpack.packb({"reason": reason, "detail": detail}))
        os._exit(1)
