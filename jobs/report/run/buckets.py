"""Counts in bounded room, whatever arrives: by name, by size, over time."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


class BoundedCounts:
    """Counts by name. Of more than twice `room` names the rarest are summed up as `others`: a count is "at least"."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._counts: Counter[Any] = Counter()
        self.others = 0

    def add(self, counts: Mapping[Any, int]) -> None:
        for name, n in counts.items():
            self._counts[name] += n
        if len(self._counts) > 2 * self._room:
            kept = self._counts.most_common(self._room)
            self.others += self._counts.total() - sum(n for _, n in kept)
            self._counts = Counter(dict(kept))

    def most_common(self, n: int | None = None) -> list[tuple[Any, int]]:
        """The largest first; equal ones by name."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]

    def total(self) -> int:
        return self._counts.total() + self.others


class Histogram:
    """Counts between edges; below the first and from the last on, too."""

    def __init__(self, edges: Sequence[int]) -> None:
        self.edges = tuple(edges)
        self._counts = np.zeros(len(edges) + 1, dtype=np.int64)

    def add(self, values: np.ndarray[Any, Any]) -> None:
        places = np.searchsorted(self.edges, values, side="right")
        self._counts += np.bincount(places, minlength=len(self._counts))

    def rows(self) -> list[dict[str, int | None]]:
        """`from`, `to` (not included; None for no limit) and `n`, without the empty ends."""
        lows = [0, *self.edges]
        highs: list[int | None] = [*self.edges, None]
        counts = self._counts.tolist()
        filled = [i for i, n in enumerate(counts) if n]
        if not filled:
            return []
        return [{"from": lows[i], "to": highs[i], "n": counts[i]} for i in range(filled[0], filled[-1] + 1)]

    def median(self) -> float | None:
        """Half the values are below it; interpolated within a stretch. None without values."""
        total = int(self._counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), total / 2))
        low = self.edges[place - 1] if place else 0
        high = self.edges[place] if place < len(self.edges) else low
        before = int(self._counts[:place].sum())
        return float(low + (high - low) * (total / 2 - before) / max(1, int(self._counts[place])))


def steps(low: int, high: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 … from low to high."""
    found = [digit * 10**power for power in range(19) for digit in (1, 2, 5)]
    return found[bisect.bisect_left(found, low) : bisect.bisect_right(found, high)]


class Series:
    """Sums over stretches of time that hold something; when there are more than `room`, each becomes twice as long."""

    def __init__(self, names: Sequence[str], room: int = 300) -> None:
        self.width_s = 1
        self._names, self._room = tuple(names), room
        self._sums: dict[int, np.ndarray[Any, Any]] = {}

    def add(self, seconds: np.ndarray[Any, Any], values: Sequence[np.ndarray[Any, Any]]) -> None:
        """Note times in whole seconds since 1970, and for each name what is to be summed up there."""
        if not len(seconds):
            return
        numbers, places = np.unique(seconds // self.width_s, return_inverse=True)
        sums = np.stack([np.bincount(places, weights=v, minlength=len(numbers)) for v in values], axis=1)
        self._merge(zip(numbers.tolist(), sums, strict=True))
        while len(self._sums) > self._room:
            self.width_s *= 2
            before, self._sums = self._sums, {}
            self._merge((number // 2, summed) for number, summed in before.items())

    def columns(self) -> dict[str, list[float]]:
        """`at`, the start of each stretch in seconds since 1970, and each name's sum in it."""
        found = sorted(self._sums.items())
        table = {name: [float(s[i]) for _, s in found] for i, name in enumerate(self._names)}
        return {"at": [float(number * self.width_s) for number, _ in found], **table}

    def _merge(self, stretches: Iterable[tuple[int, np.ndarray[Any, Any]]]) -> None:
        for number, summed in stretches:
            known = self._sums.get(number)
            self._sums[number] = summed if known is None else known + summed
