"""The page: fills the template. It knows what report.json says and the thumbnails, and neither tables nor shards.

Everything is escaped; a link is made of http and https URLs alone; nothing outside the file is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobs.progress.words import duration, size
from jobs.report.page import STAGES, words
from jobs.report.run.charts import Chart, Column, histogram, over_time
from jobs.report.templates import environment
from licet.ledger import safe_link

if TYPE_CHECKING:  # its libraries are not for the reporter, which shows no images
    from jobs.report.run.thumbnails import Thumbnail

STATES = {
    "running": ("Still running", "Written while units run; the figures are those of the units that have reported."),
    "done": ("Finished", ""),
    "failed": ("Ended with an error", "What was finished is kept; the same command goes on from there."),
    "killed": ("Stopped from outside", "The run ended without a word; the same command goes on from where it was."),
}


def render(report: dict[str, Any], thumbnails: Sequence[Thumbnail]) -> str:
    """The whole page as HTML."""
    templates = environment()
    templates.filters.update(link=safe_link, words=words, size=size, duration=duration)
    headline, explained = STATES[report["state"]]
    return templates.get_template("run/page.html.j2").render(
        r=report,
        headline=headline,
        explained=explained,
        thumbnails=thumbnails,
        stages=STAGES,
        charts=charts_of(report),
        histograms=histograms_of(report),
    )


def charts_of(report: dict[str, Any]) -> list[tuple[str, Chart]]:
    """Charts over time, with their titles: of the outcomes where they are known, and of the machine."""
    found: list[tuple[str, Chart | None]] = []
    history, outcomes = report["history"], report["outcomes"]
    if outcomes:
        series, width = outcomes["series"], outcomes["series"]["width_s"]
        by_second = {name: [v / width for v in series[name]] for name in ("rows", "kept", "n_bytes")}
        rows = {"all": by_second["rows"], "kept": by_second["kept"]}
        found.append(("Rows a second", over_time(series["at"], rows, width, _number, clock=True)))
        if any(by_second["n_bytes"]):
            received = {"received": by_second["n_bytes"]}
            found.append(("Received, bytes a second", over_time(series["at"], received, width, size, clock=True)))
    if history and history["at_s"]:
        found += _machine(history, with_rates=not outcomes)
    return [(title, chart) for title, chart in found if chart is not None]


def _machine(history: dict[str, Any], with_rates: bool) -> list[tuple[str, Chart | None]]:
    every = history["every_s"]
    # A sample speaks for all the time since the one before it: where one came late, two stretches are its.
    begins = [history["at_s"][0], *(at + every for at in history["at_s"][:-1])]
    times = [range(round(b / every), round(at / every) + 1) for b, at in zip(begins, history["at_s"], strict=True)]

    def chart(show: Any, top: float | None, **series: str) -> Chart | None:
        values = {k: [v for t, v in zip(times, history[n], strict=True) for _ in t] for k, n in series.items()}
        at = [number * every for stretch in times for number in stretch]
        return over_time(at, values, every, show, clock=False, top=top)

    shares = chart(_percent, 1.0, cores="cores", memory="memory")
    flows = chart(size, None, received="received", sent="sent")
    disk = chart(size, None, written="disk_written", read="disk_read")
    rates = [("Rows a second, as units reported", chart(_number, None, rows="rate"))] if with_rates else []
    return [
        *rates,
        ("Cores and memory in use", shares),
        ("Network, bytes a second", flows),
        ("Disks, bytes a second", disk),
    ]


def histograms_of(report: dict[str, Any]) -> list[tuple[str, str, list[Column]]]:
    """Histograms with a title and a note."""
    outcomes = report["outcomes"]
    if not outcomes:
        return []
    asked = (
        ("Size of the files of kept images", "sizes", size),
        ("Short side of kept originals, pixels", "short_sides", _number),
        ("Time to fetch a row, milliseconds", "fetch_ms", _number),
    )
    found = [
        (title, f"half below {show(outcomes[name]['median'])}", histogram(outcomes[name]["rows"], show))
        for title, name, show in asked
        if outcomes[name]["rows"]
    ]
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.2g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"
