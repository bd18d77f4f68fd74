"""What is shown while units run: sums, rates, the bar, and a reporter that can neither slow a run nor outlive it."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.progress.feed import Feed
from jobs.progress.history import History
from jobs.progress.live import LiveProgress
from jobs.progress.options import ProgressOptions
from jobs.progress.sinks import require
from jobs.progress.tally import Tally
from jobs.progress.terminal import Terminal, quality, speed
from jobs.progress.words import duration, size
from licet.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def report(kept: int = 90, reason: str = "timeout", **values: Any) -> dict[str, Any]:
    return {
        "planned": 100,
        "kept": kept,
        "reasons": {reason: 100 - kept},
        "requests": 110,
        "n_bytes": 5_000_000,
        **values,
    }


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_rates_time_left_and_reasons_follow_from_the_reports() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.begin(40, 4000)
    for _ in range(10):  # 10 rows/s for 100 s, then 20 rows/s for 50 s
        clock.now += 10
        tally.add(report(seconds=10.0, hosts={"slow.example": 10}))
    for _ in range(10):
        clock.now += 5
        tally.add(report(reason="http-status"))
    found = tally.figures()
    assert (found.rows_done, found.kept, found.requests, found.n_bytes) == (2000, 1800, 2200, 100_000_000)
    assert found.rate_now == pytest.approx(20) and found.rate_mean == pytest.approx(2000 / 150)
    assert found.bytes_now == pytest.approx(1_000_000)
    assert found.left_s == pytest.approx(2000 / (2000 / 150))
    assert found.reasons == {"timeout": 100, "http-status": 100} and found.hosts == {"slow.example": 100}
    assert found.unit_seconds == 100 and found.kept_share == 0.9
    clock.now += 300  # nothing reports any more: "now" falls
    assert tally.figures().rate_now < 1


def test_before_the_first_report_nothing_is_promised() -> None:
    tally = Tally()
    tally.begin(3, 300)
    found = tally.figures()
    assert found.left_s is None and found.kept_share is None and found.rate_now == 0
    assert quality(found) == "no unit has reported yet"


def test_very_many_reports_from_very_many_hosts_stay_small() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.begin(40_000, 40_000)
    for number in range(40_000):
        clock.now += 0.5
        hosts = {f"h{number}.example": 1, "often.example": 1}
        tally.add({"planned": 1, "kept": 0, "reasons": {"timeout": 1}, "hosts": hosts})
    found = tally.figures()
    assert found.rows_done == 40_000 and found.hosts["often.example"] == 40_000
    assert len(tally._hosts) <= 2000 and len(tally._points) <= 2000
    assert found.rate_now == pytest.approx(2, rel=0.1)
    assert len(json.dumps(found.__dict__)) < 4096


def test_a_log_gets_few_plain_lines() -> None:
    clock, out = Clock(), io.StringIO()
    tally, terminal = Tally(clock), Terminal(out, io.StringIO())
    tally.begin(1000, 100_000)
    terminal.begin(100_000)
    for _ in range(1000):
        clock.now += 0.1
        tally.add(report())
        terminal.show(tally.figures())
    terminal.end()
    lines = out.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[-1] == (
        "100,000 of 100,000 rows, 1,000 rows/s (mean 1,000), 50.0 MB/s, 0 s left, kept 90.0%, timeout 10.0%"
    )
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_bar_that_is_drawn_again() -> None:
    master, slave = pty.openpty()
    clock = Clock()
    with open(slave, "w", encoding="utf-8") as err:
        terminal, tally = Terminal(io.StringIO(), err), Tally(clock)
        tally.begin(10, 1000)
        terminal.begin(1000)
        for _ in range(3):
            clock.now += 1
            tally.add(report())
            terminal.show(tally.figures())
        terminal.say("something happened")
        terminal.end()
        err.flush()
        shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert "300/1000 rows" in shown and "kept 90.0%" in shown and "timeout 10.0%" in shown and "\r" in shown
    assert "something happened" in shown


def test_numbers_are_told_in_units_that_a_person_reads() -> None:
    sizes = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 123_456: "123 kB", 5e9: "5.0 GB", 3e15: "3.0 PB"}
    assert {n: size(n) for n in sizes} == sizes
    times = {0: "0 s", 59.6: "1 min", 200: "3 min 20 s", 18_720: "5 h 12 min", 270_000: "3 d 3 h"}
    assert {s: duration(s) for s in times} == times
    clock = Clock()
    tally = Tally(clock)
    tally.begin(2, 200)
    clock.now += 10
    tally.add({"planned": 100, "kept": 100})
    assert speed(tally.figures()) == "10 rows/s (mean 10), 10 s left"  # no bytes were reported: none are shown


def test_a_history_of_a_week_has_the_room_of_an_hour_and_the_same_mean() -> None:
    history = History(every_s=2, room=100)
    for second in range(0, 604_800, 20):
        history.add(second, {"cores": 1.0 if second < 302_400 else 0.0})
    columns = history.columns()
    assert len(columns["at_s"]) <= 100 and columns["every_s"] > 2000
    assert sum(columns["cores"]) / len(columns["cores"]) == pytest.approx(0.5, abs=0.02)


def test_a_missing_library_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require(tensorboard=True, wandb=False)
    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python marks a module that cannot be imported
    with pytest.raises(UsageError, match=r'pip install "licet\[wandb\]"'):
        require(tensorboard=False, wandb=True)


def settings(folder: Path, **values: Any) -> dict[str, Any]:
    asked = {"report_every_s": 0.0, "tensorboard": False, "wandb_project": ""}
    return {"folder": str(folder), "run": "run", "title": {}, **asked, **values}


def figures_of(rows: int = 100) -> dict[str, Any]:
    tally = Tally()
    tally.begin(10, 1000)
    for _ in range(rows // 100):
        tally.add(report())
    return dict(tally.figures().__dict__)


def test_a_stopped_reporter_costs_the_driver_no_time(tmp_path: Path) -> None:
    feed = Feed(settings(tmp_path), tmp_path / "reporter.log")
    try:
        os.kill(feed.process.pid, signal.SIGSTOP)
        news = {"figures": figures_of()}
        slowest = 0.0
        for _ in range(2000):  # more than any pipe holds
            began = time.thread_time()
            feed.send(news)
            slowest = max(slowest, time.thread_time() - began)
        assert feed.dropped > 0
    finally:
        os.kill(feed.process.pid, signal.SIGCONT)
        feed.close({"figures": figures_of(800), "end": "done"})
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["state"], found["progress"]["rows_done"]) == ("done", 800)


def test_a_reporter_that_died_does_not_disturb_the_run(tmp_path: Path) -> None:
    feed = Feed(settings(tmp_path), tmp_path / "reporter.log")
    os.kill(feed.process.pid, signal.SIGKILL)
    feed.process.wait()
    assert feed.send({"figures": figures_of()})
    feed.close({"figures": figures_of(), "end": "done"})
    assert not (tmp_path / "report.json").exists()


def test_when_the_driver_is_killed_the_reporter_writes_a_last_report_and_ends(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from jobs.progress.live import LiveProgress
from jobs.progress.options import ProgressOptions
live = LiveProgress(Path({str(tmp_path)!r}), ProgressOptions(report_every_s=1.0, tensorboard=False), {{}})
live.begin(10, 1000)
live.advance({{"planned": 100, "kept": 70, "reasons": {{"timeout": 30}}}})
sys.stdout.write(str(live.reporter_pid) + "\\n"); sys.stdout.flush()
time.sleep(600)
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    reporter = int(driver.stdout.readline())
    path = tmp_path / "report" / "report.json"

    def state() -> str:
        found = json.loads(path.read_text()) if path.exists() else {}
        return f"{found.get('state')} {(found.get('progress') or {}).get('kept')}"

    until(lambda: state() == "running 70")
    assert psutil.Process(reporter).nice() == 19
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    until(lambda: gone(reporter))
    assert state() == "killed 70"
    assert "Stopped from outside" in (tmp_path / "report" / "index.html").read_text()


def test_tensorboard_reads_the_same_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with LiveProgress(tmp_path, ProgressOptions(report_every_s=0), {"engine": "local"}) as live:
        live.begin(10, 1000)
        live.advance(report())
    [run] = (tmp_path / "report" / "tensorboard").iterdir()
    events = EventAccumulator(str(run)).Reload()
    [last] = events.Scalars("run/rows_done")
    assert (last.step, last.value) == (100, 100.0)
    assert events.Scalars("run/kept_share")[0].value == pytest.approx(0.9)
    assert events.Scalars("rejected/timeout")[0].value == 10
    assert 0 <= events.Scalars("machine/cores")[0].value <= 1 and events.Scalars("machine/memory")[0].value > 0
    assert not (tmp_path / "report" / "reporter.log").exists()


def test_wandb_takes_the_same_figures_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason='pip install "licet[wandb]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = ProgressOptions(report_every_s=0, tensorboard=False, wandb_project="licet-test")
    with LiveProgress(tmp_path, options, {"engine": "local"}) as live:
        live.begin(10, 1000)
        live.advance(report())
    [run] = (tmp_path / "report" / "wandb").glob("offline-run-*/*.wandb")
    content = run.read_bytes()
    assert b"run/kept_share" in content and b"machine/cores" in content
    assert not (tmp_path / "report" / "reporter.log").exists()


def test_a_run_that_ends_with_an_error_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="broken"),
        LiveProgress(tmp_path, ProgressOptions(tensorboard=False), {}) as live,
    ):
        live.begin(2, 200)
        live.failed("unit-1", "OSError: disk full")
        raise RuntimeError("broken")
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["state"] == "failed" and found["progress"]["failures"] == ["unit-1: OSError: disk full"]
