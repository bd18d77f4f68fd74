"""The licence report of a small real catalog: Delta tables, shards and a manifest, and what is wrong in them."""

import io
import json
import re
from dataclasses import asdict, replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image

from jobs.audit import main
from jobs.report.checks import run_checks
from jobs.report.figures import figures, withheld_rows
from jobs.report.tables import open_tables
from licet.ledger import build_ledger
from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Outcome, Policy, Purpose
from licet.records import OUTCOME_SCHEMA, Rejected, Sample, row_id_of
from licet.shards import EXTENSIONS, open_writer
from licet.shards.index import ShardIndex, content_hash, file_sha256, index_path, total_by

AT = datetime(2026, 11, 21, tzinfo=timezone.utc)
HOSTILE = '<script>alert(1)</script><img src="https://evil.example/x.png" onerror=alert(2)>'


def sample(number: int, **changes: object) -> Sample:
    """A kept row with a 32 x 24 image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (40 * number % 256, 90, 160)).save(buffer, "JPEG")
    url = f"https://photos.example/{number}.jpg"
    values = {
        "key": row_id_of("photos", url, 0),
        "payload": buffer.getvalue(),
        "payload_format": "jpg",
        "caption": f"a photo of thing {number}",
        "width": 32,
        "height": 24,
        "original_width": 640,
        "original_height": 480,
        "sha256": "0" * 64,
        "phash": "0" * 16,
        "source_id": "photos",
        "source_url": url,
        "source_page": f"https://photos.example/page/{number}",
        "licence": "CC-BY-4.0",
        "licence_url": "https://creativecommons.org/licenses/by/4.0/",
        "creator": "Ada",
        "attribution": f"Thing {number}, by Ada",
        "language": "en",
        "rights": "{}",
        "decision": "licence-with-obligations",
    }
    return Sample(**{**values, **changes})


def refused(number: int, stage: str, reason: str, licence: str = "CC-BY-4.0", url: str = "", **changes: object) -> dict:
    url = url or f"https://photos.example/refused/{number}.jpg"
    rejected = Rejected(row_id_of("photos", url, 0), stage, reason, **changes)
    values = asdict(rejected)
    return {
        **values,
        "source_url": url,
        "source_id": "photos",
        "licence": licence,
        "language": "en",
        "state": "rejected",
    }


def kept(sample: Sample, **changes: object) -> dict:
    values = asdict(sample)
    return {**values, "row_id": sample.key, "state": "kept", "requests": 1, "http_status": 200, **changes}


def as_outcome(values: dict) -> dict:
    """All columns of an outcome; those that are not named are empty."""
    empty = {pa.string(): "", pa.int32(): 0, pa.int64(): 0, pa.bool_(): False}
    row = {field.name: values.get(field.name, empty.get(field.type)) for field in OUTCOME_SCHEMA}
    return {**row, "unit_id": "unit-0", "at": AT}


class World:
    """A folder with a catalog and a manifest in it, and the command that audits them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = [sample(i) for i in range(3)] + [sample(3, licence="CC0-1.0", creator="", attribution="")]
        self.refused = [
            refused(0, "policy", "denied", "NOASSERTION", rule="licence-unknown", detail="nobody has said"),
            refused(1, "policy", "denied", "CC-BY-NC-4.0", rule="licence-non-commercial"),
            refused(2, "fetch", "http-error", http_status=404, requests=3),
            refused(3, "deduplicate", "duplicate", requests=1, duplicate_of=self.samples[0].key),
        ]
        self.policy = Policy(Purpose.COMMERCIAL_TRAINING)
        self.withheld: list[Sample] = []

    def write_shard(self, samples: list[Sample], name: str = "unit-0") -> ShardEntry:
        (self.folder / "shards").mkdir(exist_ok=True, parents=True)
        path = str(self.folder / "shards" / (name + EXTENSIONS["tfrecord"]))
        with open_writer("tfrecord", path) as writer:
            for one in samples:
                writer.add(one)
        index = ShardIndex.open(index_path(path))
        file = ShardFile(
            path, file_sha256(path), Path(path).stat().st_size, index_path(path), file_sha256(index_path(path))
        )
        counts = [total_by([index], column) for column in ("licence", "language", "source_id")]
        content = content_hash(index.table["content"].to_pylist())
        return ShardEntry(name, len(samples), len(samples), content, *counts, {"tfrecord": file})

    def build(self) -> Manifest:
        outcomes = [kept(s) for s in [*self.samples, *self.withheld]] + self.refused
        self.write_tables(outcomes, outcomes)
        half = len(self.samples) // 2
        entries = [self.write_shard(self.samples[:half], "unit-0"), self.write_shard(self.samples[half:], "unit-1")]
        overrides = {rule: outcome.value for rule, outcome in self.policy.overrides.items()}
        return write_manifest(
            self.folder / "manifest.json",
            entries,
            self.policy.purpose,
            self.policy.hash,
            envelope={"overrides": overrides},
        )

    def write_tables(self, plan: list[dict], outcomes: list[dict]) -> None:
        ids = pa.table({"row_id": [row["row_id"] for row in plan], "generation": pa.array([1] * len(plan), pa.int32())})
        commits = pa.table({"kind": ["plan", "unit"], "generation": pa.array([1, 1], pa.int32())})
        write_deltalake(str(self.folder / "catalog" / "commits"), commits, mode="overwrite")
        rows = pa.Table.from_pylist([as_outcome(row) for row in outcomes], schema=OUTCOME_SCHEMA)
        write_deltalake(str(self.folder / "catalog" / "plan"), ids, mode="overwrite")
        write_deltalake(str(self.folder / "catalog" / "outcomes"), rows, mode="overwrite")

    def audit(self, *more: str) -> int:
        catalog, manifest, output = (str(self.folder / name) for name in ("catalog", "manifest.json", "audit"))
        return main(["--catalog", catalog, "--manifest", manifest, "--output", output, *more])

    def report(self) -> dict:
        return json.loads((self.folder / "audit" / "audit.json").read_text(encoding="utf-8"))

    def page(self) -> str:
        return (self.folder / "audit" / "index.html").read_text(encoding="utf-8")

    def lines(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "audit" / name).read_text(encoding="utf-8").splitlines()]

    def failed_checks(self) -> set[str]:
        return {check["id"] for check in self.report()["checks"] if not check["passed"]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Elements(HTMLParser):
    """Tags of a page, and every attribute that makes a browser load or go somewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "href":
                self.links.append(value or "")
            if name in ("src", "srcset", "data", "poster", "background", "action", "xlink:href"):
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.add(value or "")


def test_a_sound_catalog_passes_and_the_figures_are_those_of_its_rows(world: World) -> None:
    manifest = world.build()
    assert world.audit() == 0
    report = world.report()
    assert report["verdict"] == "pass" and world.failed_checks() == set()
    assert (report["rows_in"], report["kept"], report["rejected"]["rows"], report["sum_holds"]) == (8, 4, 4, True)
    assert (report["in_manifest"], report["withheld"]) == (4, 0)
    assert (report["requests"], report["requests_for_denied_rows"]) == (4 + 3 + 1, 0)
    assert report["rejected"]["by_reason"] == {"denied": 2, "http-error": 1, "duplicate": 1}
    assert report["rejected"]["by_stage"] == {"policy": 2, "fetch": 1, "deduplicate": 1}
    assert report["rejected"]["by_rule"] == {"licence-non-commercial": 1, "licence-unknown": 1}
    assert report["by_licence"]["CC-BY-4.0"] == {"in_manifest": 3, "kept": 3, "rejected": 2}
    assert report["by_source"] == {"photos": {"in_manifest": 4, "kept": 4, "rejected": 4}}
    assert report["by_language"] == {"en": {"in_manifest": 4, "kept": 4, "rejected": 4}}
    assert report["obligations"] == ["attribution"]
    assert report["manifest"]["identity"] == manifest.identity


def test_every_refused_row_is_listed_with_what_refused_it(world: World) -> None:
    world.build()
    world.audit()
    rows = {row["source_url"]: row for row in world.report()["refused"]}
    assert len(rows) == 4 and world.report()["refused"][0]["stage"] == "policy"
    by_reason = {row["reason"]: row for row in rows.values()}
    assert by_reason["http-error"]["http_status"] == 404
    assert by_reason["duplicate"]["duplicate_of_url"] == world.samples[0].source_url
    assert {row["rule"] for row in rows.values()} == {"licence-unknown", "licence-non-commercial", ""}
    assert {row["row_id"] for row in world.lines("refused.jsonl")} == {row["row_id"] for row in world.refused}


def test_every_kept_row_is_listed_with_its_credit_in_plan_order(world: World) -> None:
    world.build()
    world.audit()
    assert [row["row_id"] for row in world.report()["kept_rows"]] == [s.key for s in world.samples]
    assert world.report()["kept_rows"] == world.lines("kept.jsonl")
    assert world.report()["kept_rows"][0]["attribution"] == "Thing 0, by Ada"
    assert "Thing 0, by Ada" in (world.folder / "audit" / "ATTRIBUTION.md").read_text()


def test_lists_are_bounded_and_say_how_many_they_leave_out(world: World) -> None:
    world.build()
    assert world.audit("--max_listed_rows", "-1") == 2
    assert world.audit("--max_listed_rows", "3", "--max_thumbnails", "2") == 0
    report = world.report()
    assert (len(report["refused"]), report["refused_left_out"]) == (3, 1)
    assert (len(report["kept_rows"]), report["kept_left_out"]) == (3, 1)
    assert len(world.lines("refused.jsonl")) == len(world.lines("kept.jsonl")) == 4
    page = world.page()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "1 more row is in <code>refused.jsonl</code>" in page and "2 of 4, spread evenly" in page


def test_the_report_is_the_same_when_made_again_but_for_its_time(world: World) -> None:
    world.build()
    world.audit()
    first = {path.name: path.read_bytes() for path in (world.folder / "audit").iterdir()}
    world.audit()
    second = {path.name: path.read_bytes() for path in (world.folder / "audit").iterdir()}
    times = re.compile(rb'"made_at": "[^"]*"|<time.*?</time>')
    assert {k: times.sub(b"", v) for k, v in first.items()} == {k: times.sub(b"", v) for k, v in second.items()}
    assert len(first) == 6 and len(times.findall(first["audit.json"])) == len(times.findall(first["index.html"])) == 1


def test_rows_that_the_policy_now_refuses_are_a_violation(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.samples[1] = replace(world.samples[1], licence="CC-BY-NC-4.0")
    world.build()
    assert world.audit() == 3
    assert world.failed_checks() == {"policy-allows"}
    (check,) = [c for c in world.report()["checks"] if not c["passed"]]
    assert check["examples"] == [world.samples[1].key]
    assert "commercial-training" in capsys.readouterr().err
    assert "Not cleared for commercial training" in world.page()


def test_an_override_that_the_manifest_records_is_honoured_and_shown(world: World) -> None:
    world.samples[1] = replace(world.samples[1], licence="CC-BY-NC-4.0")
    world.policy = Policy(Purpose.COMMERCIAL_TRAINING, {"licence-non-commercial": Outcome.ALLOW_WITH_OBLIGATIONS})
    world.build()
    assert world.audit() == 0
    assert world.report()["manifest"]["overrides"] == {"licence-non-commercial": "allow-with-obligations"}
    assert "licence-non-commercial → allow-with-obligations" in world.page()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"creator": "", "attribution": ""}, {"credit-named", "policy-allows"}),
        ({"licence": "NOASSERTION"}, {"licence-named", "policy-allows"}),
        ({"licence": "No-Such-Licence-1.0"}, {"policy-allows"}),
        ({"source_url": ""}, {"source-named"}),
    ],
    ids=["credit", "licence", "licence that SPDX does not know", "source URL"],
)
def test_a_row_of_the_manifest_that_lacks_its_rights_is_a_violation(
    world: World, changes: dict[str, str], expected: set[str]
) -> None:
    world.samples[2] = replace(world.samples[2], **changes)
    world.build()
    assert world.audit() == 3
    assert world.failed_checks() == expected


def test_a_request_for_a_denied_row_is_a_violation(world: World) -> None:
    world.refused[0]["requests"] = 2
    world.build()
    assert world.audit() == 3
    assert world.failed_checks() == {"denied-row-not-requested"}
    assert world.report()["requests_for_denied_rows"] == 2


def test_a_refusal_without_a_reason_is_a_violation(world: World) -> None:
    world.refused[2]["reason"] = ""
    world.build()
    assert world.audit() == 3
    assert world.failed_checks() == {"refusal-has-reason"}


def test_a_planned_row_that_vanished_breaks_the_sum(world: World) -> None:
    world.build()
    everything = [kept(s) for s in world.samples] + world.refused
    world.write_tables(everything, everything[:-1])
    assert world.audit() == 3
    assert world.failed_checks() == {"sum", "planned-row-has-outcome"}
    assert world.report()["sum_holds"] is False


def test_rows_of_a_plan_that_was_never_frozen_were_not_planned(world: World) -> None:
    world.build()
    half = pa.table({"row_id": ["0" * 32, "f" * 32], "generation": pa.array([2, 2], pa.int32())})
    write_deltalake(str(world.folder / "catalog" / "plan"), half, mode="append")
    assert world.audit() == 0
    assert world.report()["rows_in"] == 8


def test_rows_that_a_later_plan_has_again_count_once(world: World) -> None:
    world.build()
    again = pa.table({"row_id": [row["row_id"] for row in world.refused], "generation": pa.array([2] * 4, pa.int32())})
    write_deltalake(str(world.folder / "catalog" / "plan"), again, mode="append")
    frozen = pa.table({"kind": ["plan"], "generation": pa.array([2], pa.int32())})
    write_deltalake(str(world.folder / "catalog" / "commits"), frozen, mode="append")
    assert world.audit() == 0
    assert world.report()["rows_in"] == 8


def test_sums_that_agree_by_accident_do_not_hide_a_lost_and_a_doubled_row(world: World) -> None:
    world.build()
    everything = [kept(s) for s in world.samples] + world.refused
    world.write_tables(everything, [*everything[:-1], everything[0]])
    assert world.audit() == 3
    assert world.failed_checks() == {"planned-row-has-outcome", "one-outcome"}


def test_figures_and_checks_are_the_same_when_ids_are_compared_slice_by_slice(world: World) -> None:
    world.withheld = [sample(n) for n in range(10, 40)]
    manifest = world.build()
    everything = [kept(s) for s in [*world.samples, *world.withheld]] + world.refused
    world.write_tables(everything, [*everything[2:], everything[20]])
    ledger = build_ledger(manifest)
    found = []
    for rows_per_slice in (1000, 3, 1):
        with open_tables(str(world.folder / "catalog"), manifest, rows_per_slice) as tables:
            withheld = list(withheld_rows(tables, world.policy, 12))
            found.append((figures(tables, ledger), run_checks(tables, manifest, ledger, world.policy), withheld))
    assert found[0] == found[1] == found[2]
    assert {c.id: c.failures for c in found[0][1] if not c.passed} == {
        "sum": 1,
        "planned-row-has-outcome": 2,
        "one-outcome": 1,
        "manifest-row-is-kept": 2,
    }


def test_a_manifest_that_holds_a_row_refused_since_is_a_violation(world: World) -> None:
    world.build()
    everything = [kept(s) for s in world.samples] + world.refused
    revoked = {
        **everything[0],
        "state": "rejected",
        "stage": "revoke",
        "reason": "opt-out",
        "detail": "asked by its author",
    }
    world.write_tables(everything, [revoked, *everything[1:]])
    assert world.audit() == 3
    assert world.failed_checks() == {"manifest-row-is-kept"}


def test_kept_rows_that_the_manifest_leaves_out_are_listed_with_the_reason(world: World) -> None:
    world.withheld = [sample(8, licence="CC-BY-NC-4.0"), sample(9)]
    world.build()
    assert world.audit() == 0
    report = world.report()
    assert (report["kept"], report["in_manifest"], report["withheld"]) == (6, 4, 2)
    rules = {row["row_id"]: row["rule"] for row in report["withheld_rows"]}
    assert [rules[s.key] for s in world.withheld] == ["licence-non-commercial", "not-published"]
    assert world.lines("withheld.jsonl") == report["withheld_rows"]
    assert "Kept in the catalog, not in this manifest" in world.page()


def test_a_damaged_shard_stops_the_audit(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.build()
    shard = world.folder / "shards" / "unit-1.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert world.audit() == 1
    assert "unit-1.tfrecord" in capsys.readouterr().err
    assert not (world.folder / "audit").exists()


@pytest.mark.parametrize("pattern", ["*.parquet", "_delta_log/*.json"])
def test_a_damaged_table_is_told_in_one_sentence(
    world: World, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.build()
    (file,) = (world.folder / "catalog" / "outcomes").glob(pattern)
    file.write_bytes(b"{not what was written")
    assert world.audit() == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "ingest again" in message


def test_no_catalog_and_no_manifest_are_told_in_one_sentence(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.audit() == 2
    assert "licet publish" in capsys.readouterr().err
    world.build()
    (world.folder / "catalog").rename(world.folder / "elsewhere")
    assert world.audit() == 2
    assert "no Delta table" in capsys.readouterr().err


def test_hostile_text_and_urls_become_neither_markup_nor_links(world: World) -> None:
    script = "javascript:alert(3)"
    world.samples[0] = replace(
        world.samples[0],
        caption=HOSTILE,
        attribution=HOSTILE,
        source_page=script,
        source_url=script,
        licence_url=script,
    )
    world.refused[1] = refused(
        1, "policy", "denied", "LicenseRef-x", url=f"{script}//{HOSTILE}", rule="r", detail=HOSTILE
    )
    world.refused[2] = refused(
        2, "fetch", "bad", url='https://x.example/"onmouseover=alert(4)//', detail="' onclick='x"
    )
    world.build()
    assert world.audit() == 0
    page = Elements(world.page())
    assert "script" not in page.tags and page.handlers == []
    assert all(link.startswith(("https://", "http://", "#row-")) for link in page.links)
    assert not any("alert" in link for link in page.links)
    assert "&lt;script&gt;" in world.page()
    notice = (world.folder / "audit" / "ATTRIBUTION.md").read_text()
    assert "<script>" not in notice and "](<javascript" not in notice


def test_the_page_loads_nothing_from_elsewhere(world: World) -> None:
    world.build()
    world.audit()
    page = Elements(world.page())
    assert len(page.loads) == 4 and all(load.startswith("data:image/jpeg;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert "url(" not in world.page() and "@import" not in world.page()


def test_a_duplicate_leads_to_the_copy_that_was_kept(world: World) -> None:
    world.build()
    world.audit()
    page = Elements(world.page())
    target = f"row-{world.samples[0].key}"
    assert f"#{target}" in page.links and target in page.ids


def test_texts_are_shown_as_excerpts(world: World) -> None:
    text = "Ein langer Text. " * 100
    world.samples = [sample(0, payload=text.encode(), payload_format="txt", language="de", width=0, height=0)]
    world.build()
    assert world.audit() == 0
    assert '<blockquote dir="auto" lang="de">Ein langer Text.' in world.page() and "data:image" not in world.page()
