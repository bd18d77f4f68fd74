"""One unit by itself: what each of its rows comes to, what it asks of sites, and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.catalog import CommitRow
from jobs.images.options import ImageOptions
from jobs.images.plan import PLANNED
from jobs.images.records import REASONS, WorkUnit
from jobs.images.unit import UnitSpec, run_unit
from jobs.target import Target
from jobs.web.options import FetchOptions
from licet.policy import Policy, Purpose
from licet.records import Sample, row_id_of
from licet.shards import open_reader
from licet.shards.index import file_sha256

FETCH = FetchOptions(
    threads=4, retries=1, backoff_s=0.01, host_requests_per_s=0, host_connections=0, allow_networks=["127.0.0.1/32"]
)
IMAGE = ImageOptions(size_px=64)
SITE_FILES = {"/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"}


class Done:
    """A unit that was run: its report, its outcomes in plan order, and its samples by key."""

    def __init__(self, output: Path, report: dict[str, Any]) -> None:
        self.report = report
        self.outcomes: list[dict[str, Any]] = pq.read_table(output / report["outcomes_path"]).to_pylist()
        self.samples: dict[str, Sample] = {}
        for file in report["files"]:
            reader = open_reader(file["format"], str(output / file["path"]))
            self.samples |= {reader[place].key: reader[place] for place in range(len(reader))}
            reader.close()

    @property
    def ends(self) -> list[str]:
        """For each row: kept, or stage and reason."""
        return [o["state"] if o["state"] == "kept" else f"{o['stage']}: {o['reason']}" for o in self.outcomes]


def planned(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the plan table, in this order, with what is not given filled in."""
    text = dict.fromkeys(PLANNED, "")
    common = {"generation": 1, "unit_id": "u", "unit_index": 0, "url_hash": 0, "source_id": "photos"}
    common |= {"licence": "CC-BY-4.0", "creator": "A. Nonymous", "language": "en", "boxes": "[]", "extra": "{}"}
    return [
        text
        | common
        | {"place": n, "ordinal": n, "line": n + 2, "row_id": row_id_of("photos", row["url"], n)}
        | {"canonical_url": row["url"]}
        | row
        for n, row in enumerate(rows)
    ]


def run(output: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> Done:
    """Run these rows as one unit, with webdataset shards below `output`."""
    output.mkdir(parents=True, exist_ok=True)
    plan = output / "plan.parquet"
    pq.write_table(pa.Table.from_pylist(planned(rows)), plan)
    spec: dict[str, Any] = {"formats": ("webdataset",), "policy": Policy(Purpose.COMMERCIAL_TRAINING)}
    spec |= {"fetch": FETCH, "image": IMAGE}
    unit = WorkUnit("u", 1, 0, len(rows), (str(plan),))
    return Done(output, run_unit(unit, UnitSpec(target=Target(str(output)), **(spec | options))))


def asked(web: Any) -> list[str]:
    """What was asked of the server beside its site's files."""
    return [path for path in web.log if path not in SITE_FILES]


def test_rows_of_one_url_share_one_fetch_and_each_has_its_own_record(tmp_path: Path, web: Any) -> None:
    url = web.url + "/chelsea.jpg"
    rows = [
        {"url": url, "caption": "a cat", "extra": '{"n": 1}'},
        {"url": url + "#face", "canonical_url": url, "caption": "its face", "boxes": "[[0.2,0.2,0.8,0.8]]"},
        {"url": url, "caption": "a cat, free", "licence": "CC0-1.0", "creator": "B"},
    ]
    done = run(tmp_path, rows)
    assert done.ends == ["kept"] * 3
    assert asked(web) == ["/chelsea.jpg"]
    samples = [done.samples[outcome["row_id"]] for outcome in done.outcomes]
    assert [sample.caption for sample in samples] == [row["caption"] for row in rows]
    assert [sample.source_url for sample in samples] == [row["url"] for row in rows]
    assert [sample.licence for sample in samples] == ["CC-BY-4.0", "CC-BY-4.0", "CC0-1.0"]
    assert samples[0].extra == '{"n": 1}'
    assert {sample.sha256 for sample in samples} == {hashlib.sha256(web.files["/chelsea.jpg"]).hexdigest()}
    assert samples[0].payload == samples[2].payload != samples[1].payload  # the face is blurred in one
    assert [outcome["requests"] for outcome in done.outcomes] == [1 + len(SITE_FILES), 0, 0]
    assert [outcome["http_status"] for outcome in done.outcomes] == [200] * 3


def test_a_denied_row_neither_asks_nor_stops_the_next(tmp_path: Path, web: Any) -> None:
    url = web.url + "/chelsea.jpg"
    reserved = {"url": url, "licence": "CC-BY-NC-4.0"}
    done = run(tmp_path, [reserved, {"url": url, "licence": "CC0-1.0"}, reserved])
    assert done.ends == ["policy: denied", "kept", "policy: denied"]
    assert asked(web) == ["/chelsea.jpg"]
    assert [outcome["requests"] for outcome in done.outcomes] == [0, 1 + len(SITE_FILES), 0]
    assert done.report["requests_for_denied_rows"] == 0


def test_rows_that_may_not_be_asked_for_send_nothing_at_all(tmp_path: Path, web: Any) -> None:
    url = web.url + "/chelsea.jpg"
    rows = [
        {"url": url, "licence": "CC-BY-NC-4.0"},
        {"url": url, "licence": "CC-WRONG-9"},
        {"url": url, "creator": ""},
        {"url": "", "canonical_url": "", "problem": "url-missing", "problem_detail": "no URL"},
    ]
    done = run(tmp_path, rows)
    assert done.ends == ["policy: denied", "policy: licence-unparsable", "policy: needs-review", "read: url-missing"]
    assert done.outcomes[3]["detail"] == "row 5: no URL"
    assert web.log == []
    assert (done.report["files"], done.report["rows"], done.report["kept"]) == ([], 0, 0)


def test_rows_that_honour_other_protocols_are_not_fetched_together(tmp_path: Path, web: Any) -> None:
    web.files["/robots.txt"] = b"User-agent: *\nDisallow: /chelsea.jpg"
    url = web.url + "/chelsea.jpg"
    rows = [{"url": url, "source_id": "bold"}, {"url": url}, {"url": url, "source_id": "bold"}]
    done = run(tmp_path, rows, protocols={"bold": (), "photos": ("robots.txt",)})
    assert done.ends == ["kept", "rights: robots-disallowed", "kept"]
    assert [json.loads(outcome["rights"]).keys() for outcome in done.outcomes] == [set(), {"robots.txt"}, set()]


def test_what_robots_txt_disallows_is_not_asked_for(tmp_path: Path, web: Any) -> None:
    web.files["/robots.txt"] = b"User-agent: *\nDisallow: /coffee.jpg"
    rows = [{"url": web.url + path} for path in ("/coffee.jpg", "/coffee.jpg", "/chelsea.jpg")]
    done = run(tmp_path, rows)
    assert done.ends == ["rights: robots-disallowed", "rights: robots-disallowed", "kept"]
    assert asked(web) == ["/chelsea.jpg"]
    denied = [json.loads(outcome["rights"])["robots.txt"] for outcome in done.outcomes[:2]]
    assert denied[0] == denied[1]
    assert denied[0]["rule"].startswith("Disallow: /coffee.jpg")
    assert denied[0]["at"].endswith("Z")
    assert {outcome["row_id"] for outcome in done.outcomes} == {row["row_id"] for row in planned(rows)}


def test_a_redirect_to_what_is_disallowed_is_not_followed(tmp_path: Path, web: Any) -> None:
    web.files["/robots.txt"] = b"User-agent: *\nDisallow: /chelsea.jpg"
    done = run(tmp_path, [{"url": web.url + "/moved.jpg"}])
    assert done.ends == ["rights: robots-disallowed"]
    assert asked(web) == ["/moved.jpg"]


def test_what_sites_said_is_kept_with_its_time_in_outcomes_and_without_in_shards(tmp_path: Path, web: Any) -> None:
    done = run(tmp_path, [{"url": web.url + "/chelsea.jpg"}])
    in_outcome, in_sample = done.outcomes[0]["rights"], done.samples[done.outcomes[0]["row_id"]].rights
    assert json.loads(in_outcome)["robots.txt"] == {"status": 404, "at": json.loads(in_outcome)["robots.txt"]["at"]}
    assert json.loads(in_sample)["robots.txt"] == {"status": 404}
    assert json.loads(in_outcome).keys() == json.loads(in_sample).keys()
    assert '"at"' not in in_sample


def test_a_row_whose_hash_or_boxes_are_wrong_falls_alone(tmp_path: Path, web: Any) -> None:
    url = web.url + "/chelsea.jpg"
    right = hashlib.sha256(web.files["/chelsea.jpg"]).hexdigest()
    rows = [
        {"url": url, "expected_hash": "sha256:" + "0" * 64},
        {"url": url, "expected_hash": f"sha256:{right}"},
        {"url": url, "boxes": "[[0.9,0,0.1,1]]"},
        {"url": url},
    ]
    done = run(tmp_path, rows)
    assert done.ends == ["fetch: hash-mismatch", "kept", "transform: boxes-malformed", "kept"]
    assert asked(web) == ["/chelsea.jpg"]
    assert [outcome["transient"] for outcome in done.outcomes] == [False] * 4


def test_what_stops_the_fetch_stops_every_row_of_it(tmp_path: Path, web: Any) -> None:
    rows = [{"url": web.url + path} for path in ("/always-500", "/always-500", "/nothing", "/page.html", "/loop")]
    done = run(tmp_path, rows)
    ends = ["http-status", "http-status", "http-status", "not-an-image", "too-many-redirects"]
    assert [outcome["reason"] for outcome in done.outcomes] == ends
    assert [outcome["stage"] for outcome in done.outcomes] == ["fetch", "fetch", "fetch", "decode", "fetch"]
    assert [outcome["transient"] for outcome in done.outcomes] == [True, True, False, False, False]
    assert [outcome["http_status"] for outcome in done.outcomes] == [500, 500, 404, 200, 302]
    assert web.hits["/always-500"] == 2  # one retry
    assert sum(outcome["requests"] for outcome in done.outcomes) == len(web.log) == done.report["requests"]
    assert {outcome["reason"] for outcome in done.outcomes} <= REASONS.keys()


def test_a_forbidden_address_is_refused_by_its_own_name(tmp_path: Path, web: Any) -> None:
    port = urlsplit(web.url).port
    rows = [{"url": f"http://{host}:{port}/chelsea.jpg"} for host in ("127.0.0.2", "2130706434", "[::ffff:127.0.0.2]")]
    done = run(tmp_path, rows)
    assert done.ends == ["fetch: address-refused"] * 3
    assert not any(outcome["transient"] or outcome["requests"] for outcome in done.outcomes)
    assert web.connections == 0


def test_after_its_deadline_a_unit_ends_and_its_rows_may_be_tried_again(tmp_path: Path, web: Any) -> None:
    paths = ["/chelsea.jpg", "/chelsea.jpg", "/coffee.jpg", "/moon.jpg"]
    done = run(tmp_path, [{"url": web.url + path} for path in paths], deadline_s=0.0)
    assert done.ends == ["fetch: unit-deadline"] * 4
    assert all(outcome["transient"] for outcome in done.outcomes)
    assert web.log == []


def test_the_same_unit_gives_the_same_shards(tmp_path: Path, web: Any) -> None:
    paths = ["/flaky.jpg", *(f"/view{n}.jpg" for n in range(6)), "/nothing"]
    rows = [{"url": web.url + path} for path in paths]
    formats = ("tfrecord", "webdataset", "parquet")
    first, second = (run(tmp_path / name, rows, formats=formats) for name in ("first", "second"))
    same = ("format", "shard", "rows", "content", "sha256", "index_sha256", "n_bytes")
    shown = [[{name: file[name] for name in same} for file in done.report["files"]] for done in (first, second)]
    assert shown[0] == shown[1]
    assert [file["format"] for file in shown[0]] == list(formats)
    assert {file["rows"] for file in shown[0]} == {7}
    assert first.report["attempt"] != second.report["attempt"]
    assert first.report["content"] == second.report["content"]
    kept = [outcome["row_id"] for outcome in first.outcomes if outcome["state"] == "kept"]
    assert list(first.samples) == kept == [row["row_id"] for row in planned(rows)[:7]]  # plan order, the slow one first


def test_a_report_says_what_a_commit_needs_and_what_it_cost(tmp_path: Path, web: Any) -> None:
    paths = ["/chelsea.jpg", "/chelsea.jpg", "/coffee.jpg", "/nothing"]
    done = run(tmp_path, [{"url": web.url + path} for path in paths])
    report = done.report
    row = CommitRow(**{name: report[name] for name in CommitRow.__dataclass_fields__ if name in report})
    assert (row.kind, row.unit_id, row.generation, row.planned, row.kept, row.rejected) == ("unit", "u", 1, 4, 3, 1)
    assert row.reasons == {"http-status": 1}
    assert row.outcomes_sha256 == file_sha256(str(tmp_path / row.outcomes_path))
    assert report["hosts"] == {urlsplit(web.url).hostname: 1}
    assert report["seconds"] > 0
    costs = [outcome["n_bytes"] for outcome in done.outcomes]
    assert report["n_bytes"] == sum(costs)
    assert costs[1] == done.outcomes[1]["fetch_ms"] == 0  # served by the first row's fetch
    for cost, path in zip((costs[0], costs[2]), ("/chelsea.jpg", "/coffee.jpg"), strict=True):
        assert len(web.files[path]) < cost < len(web.files[path]) + 1000  # and the head


def test_a_plan_that_lacks_rows_is_not_run(tmp_path: Path, web: Any) -> None:
    plan = tmp_path / "plan.parquet"
    rows = planned([{"url": web.url + "/chelsea.jpg"}, {"url": web.url + "/coffee.jpg", "unit_id": "another"}])
    pq.write_table(pa.Table.from_pylist(rows), plan)
    spec = UnitSpec(Target(str(tmp_path)), ("webdataset",), Policy(Purpose.COMMERCIAL_TRAINING), fetch=FETCH)
    with pytest.raises(ValueError, match=r"1 rows in .* 2 were planned"):
        run_unit(WorkUnit("u", 1, 0, 2, (str(plan),)), spec)
    assert web.log == []
