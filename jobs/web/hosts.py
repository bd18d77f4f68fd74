"""Politeness: how much one host is asked for at once, how often, and when it is left alone.

Limits hold within one process. What a job asks of a host altogether is this, times its processes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from jobs.web.reasons import WebError

_MOST_HOSTS = 65_536


class Host:
    """One host's slots, its token bucket and its circuit breaker.

    The breaker (Nygard, Release It!, 2007): after `failures` failures in a row nobody is let in for `cooldown_s`; then
    one request is, and its end decides.
    """

    def __init__(self, connections: int, requests_per_s: float, failures: int, cooldown_s: float) -> None:
        self._connections, self._requests_per_s = connections, requests_per_s
        self._failures, self._cooldown_s = failures, cooldown_s
        self._turn = threading.Condition(threading.Lock())
        self._active = 0
        self._waiting = 0
        self._most_tokens = max(requests_per_s, 1.0)
        self._tokens = self._most_tokens
        self._counted_at = time.monotonic()
        self._not_before = 0.0
        self._failed = 0
        self._open_until = 0.0
        """Nobody is let in before; only one afterwards. 0: everybody is."""
        self._trying = False

    def enter(self, until: float) -> None:
        """Wait for a turn. Raises `WebError`: host-down at once, unit-deadline when `until` (monotonic) comes first."""
        with self._turn:
            self._waiting += 1
            try:
                while True:
                    now = time.monotonic()
                    self._check_breaker(now)
                    wait_s = self._wait_s(now)
                    if wait_s == 0:
                        break
                    if now >= until:
                        raise WebError("unit-deadline", "waiting for the host's turn")
                    self._turn.wait(min(wait_s, until - now, threading.TIMEOUT_MAX))
            finally:
                self._waiting -= 1
            self._active += 1
            self._tokens -= 1
            self._trying = self._open_until > 0

    def leave(self, good: bool | None) -> None:
        """A request ended. `good`: whether the host answered; None when that says nothing about the host."""
        with self._turn:
            self._active -= 1
            if good is not None:
                self._failed = 0 if good else self._failed + 1
                opened = 0 < self._failures <= self._failed
                self._open_until = time.monotonic() + self._cooldown_s if opened else 0.0
            self._trying = False
            if self._waiting:
                self._turn.notify_all()

    def pause(self, seconds: float) -> None:
        """Let nobody in for so long: the host has asked for it."""
        with self._turn:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def slow_down(self, interval_s: float) -> None:
        """Let in one request in so many seconds from now on, unless the limit is stricter already."""
        with self._turn:
            slower = 1 / interval_s
            if not self._requests_per_s or slower < self._requests_per_s:
                self._requests_per_s, self._most_tokens, self._counted_at = slower, 1.0, time.monotonic()
                self._tokens = min(self._tokens, 1.0)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting the host."""
        now = time.monotonic()
        busy = self._active or self._waiting or max(self._not_before, self._open_until) > now
        return not busy and (now - self._counted_at) * self._requests_per_s >= self._most_tokens

    def _check_breaker(self, now: float) -> None:
        if self._open_until and (now < self._open_until or self._trying):
            raise WebError("host-down", f"{self._failed} failures in a row")

    def _wait_s(self, now: float) -> float:
        """Seconds until a turn is possible; 0 when it is now, infinity when somebody must leave first."""
        if self._connections and self._active >= self._connections:
            return float("inf")
        if self._not_before > now:
            return self._not_before - now
        if not self._requests_per_s:
            return 0.0
        self._tokens = min(self._most_tokens, self._tokens + (now - self._counted_at) * self._requests_per_s)
        self._counted_at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._requests_per_s


class Hosts:
    """A `Host` for each name, and the same for everybody who asks."""

    def __init__(self, connections: int, requests_per_s: float, failures: int, cooldown_s: float) -> None:
        self._limits = (connections, requests_per_s, failures, cooldown_s)
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str) -> Host:
        with self._lock:
            host = self._hosts.get(name)
            if host is None:
                host = self._hosts[name] = Host(*self._limits)
                if len(self._hosts) > _MOST_HOSTS:
                    self._forget_one()
            self._hosts.move_to_end(name)
            return host

    def _forget_one(self) -> None:
        """Forget the idle host that was longest not asked for."""
        for name, host in self._hosts.items():
            if host.idle:
                del self._hosts[name]
                return
