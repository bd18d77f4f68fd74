"""Stand-in decoders for `test_isolation.py`, imported by the processes that it starts."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

Worker = Callable[[bytes, dict[str, Any]], dict[str, Any]]
_KEPT: list[bytes] = []


def worker(spec: dict[str, Any]) -> Worker:
    """Does what the job's `do` says."""

    def work(data: bytes, job: dict[str, Any]) -> dict[str, Any]:
        return {"said": _DEEDS[job.get("do", "echo")](data), "pid": os.getpid(), "spec": spec}

    return work


def broken(spec: dict[str, Any]) -> Worker:
    raise ValueError(f"cannot work with {spec}")


def _spin(data: bytes) -> None:
    while True:
        pass


def _swallow(data: bytes) -> None:
    while True:
        _KEPT.append(b"x" * (16 << 20))


def _swallow_in_c(data: bytes) -> int:
    """What a C library does that does not check malloc."""
    block = ctypes.CDLL(None).malloc
    block.restype = ctypes.c_void_p
    while True:
        at = block(ctypes.c_size_t(16 << 20))
        ctypes.memset(at or 0, 1, 16 << 20)


def _babble(data: bytes) -> str:
    """Write to the socket that answers are read from."""
    os.write(_socket(), b"\xff" * 4096)
    return "after garbage"


def _leave_a_mess(data: bytes) -> str:
    """Answer well, then write more when nobody asked."""
    if os.fork() == 0:
        time.sleep(0.05)
        os.write(_socket(), b"garbage")
        os._exit(0)
    return "well"


def _socket() -> int:
    return next(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and _is_socket(int(fd)))


def _is_socket(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except OSError:
        return False


def _poison(data: bytes) -> str:
    """Answer well, but leave a process that dies of its next job."""
    _DEEDS["echo"] = _DEEDS["segfault"]
    return "well"


def _write(data: bytes) -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        return file.write(data)


def _descriptors(data: bytes) -> list[str]:
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd))


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


_DEEDS: dict[str, Callable[[bytes], Any]] = {
    "echo": lambda data: data,
    "segfault": lambda data: ctypes.string_at(0),
    "abort": lambda data: os.abort(),
    "spin": _spin,
    "sleep": lambda data: time.sleep(60),
    "swallow": _swallow,
    "swallow-in-c": _swallow_in_c,
    "exit": lambda data: os._exit(3),
    "raise": lambda data: [][1],
    "babble": _babble,
    "mess": _leave_a_mess,
    "unpackable": lambda data: object(),
    "descriptors": _descriptors,
    "dumpable": lambda data: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "poison": _poison,
    "write": _write,
    "threads": lambda data: len(os.listdir("/proc/self/task")),
    "path": lambda data: __file__,
}
