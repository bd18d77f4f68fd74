"""Sums of what the units reported, and what follows from them: rates and the time left. It shows nothing.

Its memory does not grow with the run: reasons are a fixed vocabulary, hosts and points in time are bounded.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NOW_S = 30.0
"""What "now" means for a rate; longer where units take longer."""
_LEFT_S = 600.0
"""The time left is told from the rate of the last ten minutes."""
_MAX_POINTS = 2_000
_MAX_HOSTS = 2_000
_SHOWN_HOSTS = 20
_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class Figures:
    """How far a run is. Rates are rows and bytes a second; rows done are kept or rejected and not yet all committed."""

    elapsed_s: float
    units: int
    units_done: int
    units_failed: int
    rows: int
    """To be done in this run."""
    rows_done: int
    kept: int
    reasons: dict[str, int]
    """Reason -> rejected rows, most frequent first."""
    hosts: dict[str, int]
    """Host -> rows that failed there, for the hosts where most did: at least so many."""
    requests: int
    n_bytes: int
    """Received from the network."""
    unit_seconds: float
    """Sum of the time that units took, side by side."""
    rate_now: float
    rate_mean: float
    bytes_now: float
    bytes_mean: float
    left_s: float | None
    """None before the first report."""
    failures: list[str]
    """The latest units that failed for good."""

    @property
    def kept_share(self) -> float | None:
        """Of the rows done; None before the first."""
        return self.kept / self.rows_done if self.rows_done else None


class Tally:
    """Fed by one thread, read by another: `add` and `figures` hold a lock of the caller's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._units = self._units_done = self._units_failed = 0
        self._rows = self._rows_done = self._kept = self._requests = self._n_bytes = 0
        self._unit_seconds = 0.0
        self._reasons: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._failures: deque[str] = deque(maxlen=_SHOWN_FAILURES)
        self._points: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)], maxlen=_MAX_POINTS)

    def begin(self, units: int, rows: int) -> None:
        """So many units of so many rows are to be run; the clock of the rates starts."""
        self._units, self._rows = units, rows
        self._began = self._clock()
        self._points.clear()
        self._points.append((self._began, 0, 0))

    def add(self, report: Mapping[str, Any]) -> None:
        """One unit's report."""
        self._units_done += 1
        self._rows_done += report.get("planned", 0)
        self._kept += report.get("kept", 0)
        self._requests += report.get("requests", 0)
        self._n_bytes += report.get("n_bytes", 0)
        self._unit_seconds += report.get("seconds", 0.0)
        self._reasons.update(report.get("reasons", {}))
        self._hosts.update(report.get("hosts", {}))
        if len(self._hosts) > _MAX_HOSTS:
            self._hosts = Counter(dict(self._hosts.most_common(_MAX_HOSTS // 2)))
        self._note_point()

    def fail(self, unit: str, error: str) -> None:
        """One unit failed for good."""
        self._units_failed += 1
        self._failures.append(f"{unit}: {error}")

    def figures(self) -> Figures:
        """How far it is now."""
        now = self._clock()
        elapsed = now - self._began
        rate_now, bytes_now = self._rates(now, NOW_S)
        rate_left, _ = self._rates(now, _LEFT_S)
        return Figures(
            elapsed_s=elapsed,
            units=self._units,
            units_done=self._units_done,
            units_failed=self._units_failed,
            rows=self._rows,
            rows_done=self._rows_done,
            kept=self._kept,
            reasons=dict(self._reasons.most_common()),
            hosts=dict(self._hosts.most_common(_SHOWN_HOSTS)),
            requests=self._requests,
            n_bytes=self._n_bytes,
            unit_seconds=self._unit_seconds,
            rate_now=rate_now,
            rate_mean=self._rows_done / elapsed if elapsed > 0 else 0.0,
            bytes_now=bytes_now,
            bytes_mean=self._n_bytes / elapsed if elapsed > 0 else 0.0,
            left_s=(self._rows - self._rows_done) / rate_left if rate_left > 0 else None,
            failures=list(self._failures),
        )

    def _note_point(self) -> None:
        """At most one point a second, so that the points reach back ten minutes however small the units are."""
        now = self._clock()
        if len(self._points) > 1 and now - self._points[-2][0] < 1.0:
            self._points.pop()
        self._points.append((now, self._rows_done, self._n_bytes))

    def _rates(self, now: float, window_s: float) -> tuple[float, float]:
        """Rows and bytes a second over the window, which starts at a report: units report in bursts."""
        start = self._points[0]
        for point in reversed(self._points):
            start = point
            if point[0] <= now - window_s:
                break
        seconds = now - start[0]
        if seconds <= 0:
            return 0.0, 0.0
        return (self._rows_done - start[1]) / seconds, (self._n_bytes - start[2]) / seconds
