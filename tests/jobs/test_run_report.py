"""The report of a run: what it counts, that it is safe to open, and that many rows cost no more memory than few."""

from __future__ import annotations

import datetime
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image
from skimage import data as photos

from jobs.catalog import SCHEMAS
from jobs.layout import SHARDS
from jobs.report.run.buckets import BoundedCounts, Histogram, Series, steps
from jobs.report.run.charts import nice_ticks, over_time
from jobs.report.run.running import write_running_report
from jobs.report.run.write import write_run_report
from licet.records import OUTCOME_SCHEMA, Sample
from licet.shards import open_writer

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
BEGAN = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone.utc)
ZERO = dict.fromkeys(("width", "height", "original_width", "original_height", "http_status", "requests"), 0)
EMPTY = dict.fromkeys(OUTCOME_SCHEMA.names, "") | ZERO | {"transient": False, "n_bytes": 0, "fetch_ms": 0}


def outcome(number: int, state: str = "kept", **values: Any) -> dict[str, Any]:
    at = BEGAN + datetime.timedelta(seconds=number // 4)
    row = {"row_id": f"{number:032x}", "generation": 1, "unit_id": "unit", "state": state, "at": at}
    fetched = {"http_status": 200, "requests": 1, "n_bytes": 120_000 + number, "fetch_ms": 30 + number}
    sizes = {"original_width": 600, "original_height": 400 + number, "width": 96, "height": 96}
    said = {"source_id": "photos", "source_url": f"https://host.example/{number}.jpg", "licence": "CC-BY-4.0"}
    return EMPTY | row | said | fetched | (sizes if state == "kept" else {"stage": "fetch"}) | values


def write_output(output: Path, outcomes: list[dict[str, Any]], samples: list[Sample]) -> None:
    """An output as an ingest leaves it, as far as the report reads it."""
    table = pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA)
    write_deltalake(str(output / "catalog" / "outcomes"), table)
    folder = output / SHARDS / "unit"
    folder.mkdir(parents=True)
    path = folder / "attempt.parquet"
    with open_writer("parquet", str(path)) as writer:
        for sample in samples:
            writer.add(sample)
        writer.close()
    relative = path.relative_to(output).as_posix()
    row = {"unit_id": "unit", "generation": 1, "unit_index": 0, "rows": len(samples), "content": ""}
    row |= {"format": "parquet", "path": relative, "sha256": "", "n_bytes": path.stat().st_size}
    row |= {"index_path": f"{relative}.index.arrow", "index_sha256": ""}
    write_deltalake(str(output / "catalog" / "shards"), pa.Table.from_pylist([row], schema=SCHEMAS["shards"]))


def sample(number: int, caption: str = "a cat", **values: Any) -> Sample:
    buffer = io.BytesIO()
    Image.fromarray(photos.chelsea()[: 200 + number, :200]).save(buffer, "JPEG")
    texts = dict.fromkeys(("licence_url", "creator", "source_page", "sha256", "phash"), "")
    said = texts | {"attribution": "A. Nonymous", "licence": "CC-BY-4.0", "source_url": "https://host.example/x.jpg"}
    said |= {"source_id": "photos", "language": "en", "rights": "{}", "decision": "licence-allowed", "caption": caption}
    return Sample(
        f"{number:032x}", buffer.getvalue(), "jpg", width=96, height=96, original_width=600, original_height=400,
        **{**said, **values},
    )  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """40 rows: 24 kept, 8 without an answer at two hosts, 4 refused by policy, 4 after a pause of an hour."""
    rows = [outcome(n) for n in range(24)]
    urls = [f"https://user:pw@{'Bad' if n < 6 else 'worse'}.example:8080/{n}" for n in range(8)]
    rows += [outcome(24 + n, "rejected", reason="timeout", http_status=0, requests=3, source_url=url)
             for n, url in enumerate(urls)]  # fmt: skip
    rows += [outcome(32 + n, "rejected", stage="policy", reason="denied", requests=0, n_bytes=0, fetch_ms=0,
                     licence="CC-BY-NC-4.0", http_status=0) for n in range(4)]  # fmt: skip
    later = BEGAN + datetime.timedelta(hours=1)
    rows += [outcome(36 + n, "rejected", reason="http-status", http_status=404, at=later) for n in range(4)]
    write_output(tmp_path, rows, [sample(n) for n in range(24)])
    return tmp_path


def written(output: Path, **values: Any) -> tuple[dict[str, Any], str]:
    asked: dict[str, Any] = {
        "state": "done",
        "title": {"engine": "local"},
        "summary": {"pending": 0, "seconds": {"all": 3.0}},
    }
    write_run_report(output, **{**asked, **values}, at_most_thumbnails=5)
    folder = output / "report"
    return json.loads((folder / "report.json").read_text()), (folder / "index.html").read_text()


def test_every_row_is_counted_where_it_belongs(output: Path) -> None:
    found = written(output)[0]["outcomes"]
    assert (found["rows"], found["kept"], found["rejected"]) == (40, 24, 16)
    assert found["reasons"] == [
        {"stage": "fetch", "reason": "timeout", "rows": 8},
        {"stage": "fetch", "reason": "http-status", "rows": 4},
        {"stage": "policy", "reason": "denied", "rows": 4},
    ]
    assert [(host["host"], host["rows"]) for host in found["hosts"]] == [
        ("bad.example", 6), ("host.example", 4), ("worse.example", 2),
    ]  # fmt: skip
    assert found["licences"][0] == {"name": "CC-BY-4.0", "kept": 24, "rejected": 12}
    assert found["statuses"] == [{"status": 200, "rows": 24}, {"status": 404, "rows": 4}]
    assert found["requests"] == 24 + 8 * 3 + 4
    assert sum(row["n"] for row in found["sizes"]["rows"]) == 24 and found["sizes"]["rows"][0]["from"] == 100_000
    assert [(row["from"], row["n"]) for row in found["short_sides"]["rows"]] == [(384, 24)]
    series = found["series"]
    assert (sum(series["rows"]), sum(series["kept"])) == (40, 24)
    assert series["at"][-1] - series["at"][0] == 3600


def test_the_page_shows_kept_images_and_loads_nothing_from_elsewhere(output: Path) -> None:
    report, page = written(output)
    assert len(report["thumbnails"]) == 5 == page.count('src="data:image/jpeg;base64,')
    assert page.count("<svg") >= 4
    links = re.findall(r'(?:src|href|url\()="?([^"\s)]+)', page)
    assert all(link.startswith(("data:image/jpeg;base64,", "https://host.example/")) for link in links)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_rows_are_text_and_never_markup(tmp_path: Path) -> None:
    names = ("reason", "stage", "licence", "source_id")
    rows = [outcome(n, "rejected", **{**dict.fromkeys(names, HOSTILE), "stage": "fetch", "source_url": url})
            for n, url in enumerate([f"https://{HOSTILE}/x", "javascript:alert(1)", HOSTILE])]  # fmt: skip
    rows += [outcome(3, licence=HOSTILE, source_id=HOSTILE)]
    texts = dict.fromkeys(("licence", "attribution", "source_id"), HOSTILE)
    write_output(tmp_path, rows, [sample(3, HOSTILE, **texts, source_url="javascript:alert(1)", source_page=HOSTILE)])
    progress = progress_figures(failures=[HOSTILE], hosts={HOSTILE: 3}, reasons={HOSTILE: 3}, units_failed=1)
    write_running_report(tmp_path / "report", "running", {HOSTILE: HOSTILE}, progress, {})
    running = (tmp_path / "report" / "index.html").read_text()
    for page in (running, written(tmp_path, title={HOSTILE: HOSTILE})[1]):
        assert "alert(1)" in page
        elements = _Elements()
        elements.feed(page)
        assert not [tag for tag, _ in elements.found if tag in ("script", "iframe", "object", "base", "form")]
        for _, attributes in elements.found:
            assert not [name for name in attributes if name.startswith("on")]
            assert not str(attributes.get("href", "")).startswith("javascript")
            assert str(attributes.get("src", "data:image/jpeg")).startswith("data:image/jpeg")


def progress_figures(**values: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from jobs.progress.tally import Tally

    tally = Tally()
    tally.begin(2, 2000)
    tally.add({"planned": 1000, "kept": 900, "reasons": {"timeout": 100}, "n_bytes": 1 << 20})
    return {**asdict(tally.figures()), **values}


def test_a_report_is_written_while_units_run(tmp_path: Path) -> None:
    history = {"every_s": 2.0, "at_s": [0.0, 2.0]}
    history |= {n: [0.1, 0.5] for n in ("cores", "memory", "received", "sent", "disk_read", "disk_written", "rate")}
    write_running_report(tmp_path, "running", {}, progress_figures(), history)
    page = (tmp_path / "index.html").read_text()
    assert "Still running" in page and "1,000 of 2,000" in page and page.count("<svg") == 4
    assert json.loads((tmp_path / "report.json").read_text())["progress"]["kept"] == 900


def test_an_output_that_kept_nothing_has_a_report(tmp_path: Path) -> None:
    write_output(tmp_path, [outcome(0, "rejected", reason="timeout")], [])
    report, page = written(tmp_path)
    assert report["thumbnails"] == [] and report["outcomes"]["kept"] == 0 and "<h1" in page


def test_memory_does_not_grow_with_the_rows() -> None:
    """800,000 rows, each with a host and a licence of its own, through the aggregation of one process."""
    code = """
import resource, sys
import pyarrow as pa
sys.path.insert(0, sys.argv[1])
from jobs.report.run.outcomes import Outcomes
def batch(start, n=50_000):
    numbers = pa.array(range(start, start + n))
    text = pa.compute.cast(numbers, pa.string())
    same = lambda value, kind=None: pa.array([value] * n, kind)
    url = pa.compute.binary_join_element_wise("https://", text, ".example/x", "")
    return pa.RecordBatch.from_pydict({
        "row_id": text, "unit_id": same("u"), "state": same("rejected"), "stage": same("fetch"),
        "reason": same("timeout"), "http_status": same(0), "n_bytes": numbers, "fetch_ms": same(5),
        "requests": same(1), "at": pa.array([s * 10**6 for s in range(start, start + n)], pa.timestamp("us", "UTC")),
        "original_width": same(9), "original_height": same(9), "source_id": same("s"), "source_url": url,
        "licence": text})
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
found = Outcomes(50)
for start in range(0, 150_000, 50_000):
    found.add(batch(start))
before = peak()
for start in range(150_000, 800_000, 50_000):
    found.add(batch(start))
said = found.as_dict()
assert said["rows"] == 800_000, said["rows"]
assert len(said["series"]["at"]) <= 300, len(said["series"]["at"])
sys.stdout.write(str(peak() - before))
"""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 40  # MiB


def test_counts_by_name_are_bounded_and_lose_no_row() -> None:
    counts = BoundedCounts(room=10)
    for number in range(1000):
        counts.add({f"name{number}": 1, "often": 3})
    assert counts.most_common(1) == [("often", 3000)]
    assert len(counts.most_common()) <= 20 and counts.total() == 4000


def test_a_histogram_counts_beyond_its_edges_and_knows_the_middle() -> None:
    import numpy as np

    found = Histogram(steps(10, 100))
    found.add(np.array([1, 10, 10, 25, 99, 100, 5000]))
    assert [(row["from"], row["to"], row["n"]) for row in found.rows()] == [
        (0, 10, 1), (10, 20, 2), (20, 50, 1), (50, 100, 1), (100, None, 2),
    ]  # fmt: skip
    assert found.median() == 35.0


def test_a_series_keeps_its_sums_when_it_is_thinned() -> None:
    import numpy as np

    series = Series(("rows",), room=50)
    for start in range(0, 10_000, 500):
        seconds = np.arange(start, start + 500)
        series.add(seconds, [np.ones(500)])
    columns = series.columns()
    assert series.width_s >= 200 and len(columns["at"]) <= 50 and sum(columns["rows"]) == 10_000


def test_a_pause_is_drawn_as_a_break_not_as_hours_of_nothing() -> None:
    chart = over_time([0, 1, 2, 7200, 7201], {"rows": [5, 6, 5, 5, 5]}, 1, str, clock=True)
    assert chart is not None and len(chart.breaks) == 1
    assert nice_ticks(87) == [0, 25, 50, 75, 100] and nice_ticks(0) == [0, 1]
