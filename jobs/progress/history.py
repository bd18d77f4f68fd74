"""Samples over time in bounded room: when it is full, neighbours are joined, and each stands for twice the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class History:
    """Means of named numbers over equal stretches of time; `room` stretches at most."""

    def __init__(self, every_s: float, room: int = 480) -> None:
        self.every_s, self._room = every_s, room
        self._stretches: dict[int, tuple[int, dict[str, float]]] = {}

    def add(self, at_s: float, values: Mapping[str, float]) -> None:
        """Note values at a time in seconds since the beginning."""
        self._put(int(at_s / self.every_s), 1, values)
        if len(self._stretches) > self._room:
            self.every_s *= 2
            before, self._stretches = self._stretches, {}
            for number, (count, means) in before.items():
                self._put(number // 2, count, means)

    def columns(self) -> dict[str, Any]:
        """`every_s`, `at_s` (the start of each stretch), and one list for each name; absent values are 0."""
        stretches = sorted(self._stretches.items())
        names = dict.fromkeys(name for _, (_, means) in stretches for name in means)
        table = {name: [round(means.get(name, 0.0), 4) for _, (_, means) in stretches] for name in names}
        return {"every_s": self.every_s, "at_s": [round(number * self.every_s, 3) for number, _ in stretches], **table}

    def _put(self, number: int, count: int, values: Mapping[str, float]) -> None:
        n, means = self._stretches.get(number, (0, {}))
        whole = n + count
        names = dict.fromkeys((*means, *values))
        mixed = {k: (means.get(k, 0.0) * n + values.get(k, 0.0) * count) / whole for k in names}
        self._stretches[number] = (whole, mixed)
