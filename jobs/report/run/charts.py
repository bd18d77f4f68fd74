"""Numbers -> the geometry of a chart, which the template draws as SVG. It knows neither rows nor pages."""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 640, 180
"""Of the plot itself, in SVG units; the template adds room for the labels."""
_ROUND_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 7 * 86_400, 28 * 86_400)
_LONGEST_GAP = 8
"""A pause of more stretches than this is drawn as a break."""


@dataclass(frozen=True)
class Tick:
    """A label at a place on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One series: `line` and `area` are path data."""

    name: str
    line: str
    area: str


@dataclass(frozen=True)
class Chart:
    """A chart over time."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    breaks: list[float]
    """Places where nothing ran for a while and time was left out."""


@dataclass(frozen=True)
class Column:
    """One column of a histogram."""

    x: float
    y: float
    width: float
    height: float
    label: str
    title: str


def over_time(
    at_s: Sequence[float],
    series: Mapping[str, Sequence[float]],
    width_s: float,
    show: Callable[[float], str],
    clock: bool,
    top: float | None = None,
) -> Chart | None:
    """Series over time. `at_s` are starts of stretches of `width_s`; `clock` says that they count from 1970.

    `show` writes a value for reading; `top` is the end of the axis where it is known. None when there is too little.
    """
    if not at_s or not series:
        return None
    places, breaks = _places(at_s, width_s)
    span = max(places[-1] + 1.0, 1.0)
    xs = [place / span * WIDTH for place in places]
    step = WIDTH / span
    ticks = nice_ticks(top or max((max(values) for values in series.values()), default=0.0))
    scale = HEIGHT / ticks[-1]
    lines = [_line(name, xs, step, [HEIGHT - v * scale for v in values]) for name, values in series.items()]
    labels = [
        Tick(x, _moment(t, at_s[-1] - at_s[0]) if clock else _elapsed(t)) for x, t in _spread(xs, at_s, span * width_s)
    ]
    y_ticks = [Tick(HEIGHT - v * scale, show(v)) for v in ticks]
    return Chart(lines, labels, y_ticks, [b / span * WIDTH for b in breaks])


def histogram(rows: Sequence[Mapping[str, Any]], show: Callable[[float], str], at_most: int = 40) -> list[Column]:
    """Columns of equal width; `rows` have `from`, `to` and `n`."""
    if not rows:
        return []
    shown = list(rows)[:at_most]
    most, step = max(row["n"] for row in shown), min(WIDTH / len(shown), 64.0)
    found = []
    for number, row in enumerate(shown):
        height = HEIGHT * row["n"] / most
        label = show(row["from"])
        limits = f"{label} or more" if row["to"] is None else f"{label} to {show(row['to'])}"
        found.append(Column(number * step, HEIGHT - height, step, height, label, f"{limits}: {row['n']:,}"))
    return found


def nice_ticks(top: float, about: int = 4) -> list[float]:
    """0 and further round numbers up to one that is not below `top`."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def _places(at_s: Sequence[float], width_s: float) -> tuple[list[float], list[float]]:
    """Places in stretches, where long pauses are left out; and the places of those breaks."""
    places, breaks = [0.0], []
    for before, now in itertools.pairwise(at_s):
        gap = (now - before) / width_s
        if gap > _LONGEST_GAP:
            breaks.append(places[-1] + 2.0)
            gap = 3.0
        places.append(places[-1] + gap)
    return places, breaks


def _line(name: str, xs: Sequence[float], step: float, ys: Sequence[float]) -> Line:
    """A path through the middles of the stretches; it falls to zero where a stretch is missing."""
    points: list[tuple[float, float]] = []
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if not number or x - xs[number - 1] > 1.5 * step:
            if points:
                points.append((xs[number - 1] + step, float(HEIGHT)))
            points.append((x, float(HEIGHT)))
        points.append((x + step / 2, y))
    points.append((xs[-1] + step, float(HEIGHT)))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Line(name, f"M{path}", f"M{points[0][0]:.1f},{HEIGHT} L{path} Z")


def _spread(xs: Sequence[float], at_s: Sequence[float], covered_s: float, about: int = 6) -> list[tuple[float, float]]:
    """Places of round times, spread over the axis, none close to another."""
    found: list[tuple[float, float]] = []
    step = next((s for s in _ROUND_S if covered_s / s <= about), _ROUND_S[-1])
    due = -(-at_s[0] // step) * step
    for x, t in zip(xs, at_s, strict=True):
        if t >= due:
            due = (t // step) * step
            if not found or x - found[-1][0] >= WIDTH / about / 2:
                found.append((x, due))
            due += step
    return found


def _moment(t: float, span_s: float) -> str:
    shape = "%H:%M:%S" if span_s < 600 else "%H:%M" if span_s < 86_400 else "%d %b %H:%M"
    return datetime.datetime.fromtimestamp(t, datetime.timezone.utc).strftime(shape)


def _elapsed(t: float) -> str:
    return f"{t:.0f} s" if t < 60 else f"{t / 60:.0f} min" if t < 7200 else f"{t / 3600:.1f} h"
