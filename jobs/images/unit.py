"""One work unit: rows of the plan in, shards and outcomes out. The only file that composes the stages.

    policy ─► rights ─► fetch ─► rights ─► transform ─► shards        a row that stops leaves an outcome with its reason
              robots.txt …       headers   (a process that may die)

Rows of one URL lie side by side in a unit and share one fetch. A unit writes under names that nobody else uses, and
nothing of it counts before its report is committed. Shards hold no times, so the same input gives the same bytes on any
engine.
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow.dataset as ds

from jobs.faults import write_point
from jobs.images import decoding
from jobs.images.decoding.isolation import Crash, Isolated, isolated_for
from jobs.images.decoding.options import DecoderOptions
from jobs.images.options import ImageOptions
from jobs.images.outcomes import Ended, count_outcomes, outcome, write_outcomes
from jobs.images.records import WorkUnit
from jobs.images.shards_out import ShardLimits, ShardsOut
from jobs.rights.check import Rights, rights_for
from jobs.rights.finding import Finding, timeless, unite
from jobs.rights.options import PROTOCOLS, RightsOptions
from jobs.target import Target
from jobs.web.answer import Answer, check_hash
from jobs.web.client import Client, client_for
from jobs.web.options import FetchOptions
from jobs.web.reasons import TRANSIENT, WebError
from licet.licences import LicenceError, normalise
from licet.policy import Policy, admit
from licet.records import Rejected, Sample, SourceRecord
from licet.shards import ShardFormat
from licet.shards.index import file_sha256

_AHEAD = 4
"""URLs under way for each thread: bounds what waits for its turn to be written."""
_MAX_HOSTS = 20
"""Failing hosts that a report names."""
_WORKER = "jobs.images.pixels.transform:worker"

Row = Mapping[str, Any]
Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class UnitSpec:
    """What is done to every unit of a run."""

    target: Target
    formats: tuple[ShardFormat, ...]
    policy: Policy
    protocols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Source id -> opt-out protocols that bind; all of them for a source that is not here."""
    fetch: FetchOptions = field(default_factory=FetchOptions)
    rights: RightsOptions = field(default_factory=RightsOptions)
    decoder: DecoderOptions = field(default_factory=DecoderOptions)
    image: ImageOptions = field(default_factory=ImageOptions)
    limits: ShardLimits = field(default_factory=ShardLimits)
    deadline_s: float = 3600.0
    """Rows that are not fetched and being decoded by then are rejected, and may be tried again."""


def run_unit(unit: WorkUnit, spec: UnitSpec) -> dict[str, Any]:
    """Work a unit off and report it: the fields of a `CommitRow`, and bytes, seconds and failing hosts."""
    began = time.monotonic()
    attempt = uuid.uuid4().hex
    outcomes: list[dict[str, Any]] = []
    walk = Walk.of(spec, began + spec.deadline_s)
    with (
        spec.target.unit(unit.unit_id) as place,
        ThreadPoolExecutor(spec.fetch.threads, thread_name_prefix="licet-fetch") as threads,
        ShardsOut(place, attempt, spec.formats, spec.limits) as shards,
    ):
        groups = (list(rows) for _, rows in itertools.groupby(planned_rows(unit), walk.fetched_together))
        for rows, ended in in_order(threads, walk.rows, groups, _AHEAD * spec.fetch.threads):
            for row, end in zip(rows, ended, strict=True):
                if isinstance(end.result, Sample):
                    shards.add(end.result)
                outcomes.append(outcome(row, end, unit.unit_id, unit.generation))
        made = shards.close()
        write_point("index whole, no outcomes")
        path = place.folder / f"{attempt}.outcomes.parquet"
        write_outcomes(path, outcomes)
        digest = file_sha256(str(path))
        kept_at = place.keep(path)
    write_point("outcomes whole, no report")
    return {
        "kind": "unit",
        "unit_id": unit.unit_id,
        "generation": unit.generation,
        "attempt": attempt,
        "unit_index": unit.unit_index,
        "planned": unit.planned,
        **count_outcomes(outcomes),
        **made,
        "requests": sum(o["requests"] for o in outcomes),
        "requests_for_denied_rows": sum(o["requests"] for o in outcomes if o["stage"] == "policy"),
        "outcomes_path": kept_at,
        "outcomes_sha256": digest,
        "n_bytes": sum(o["n_bytes"] for o in outcomes),
        "seconds": round(time.monotonic() - began, 3),
        "hosts": _failing_hosts(outcomes),
    }


@dataclass(frozen=True)
class Walk:
    """The stages, with what they need, for the rows of one unit. Used by many threads at once."""

    client: Client
    rights: Rights
    decoders: Isolated
    policy: Policy
    protocols: Mapping[str, tuple[str, ...]]
    give_up_at: float
    """In seconds of `time.monotonic`."""

    @classmethod
    def of(cls, spec: UnitSpec, give_up_at: float) -> Walk:
        """This process's connections, answers of sites and decoders outlive a unit."""
        client = client_for(spec.fetch)
        limits = asdict(spec.decoder)
        decoders = isolated_for(_WORKER, asdict(spec.image), **limits)
        rights = rights_for(client.get, spec.rights)
        return cls(client, rights, decoders, spec.policy, spec.protocols, give_up_at)

    def fetched_together(self, row: Row) -> tuple[str, tuple[str, ...]]:
        """Equal for rows that one fetch serves: the same URL, the same protocols to honour."""
        return row["canonical_url"] or row["row_id"], self._protocols(row)

    def rows(self, rows: Sequence[Row]) -> list[Ended]:
        """The walks of rows that are fetched together: the first that is let in asks, for all of them."""
        ended: list[Ended] = []
        fetched: _Fetched | Ended | None = None
        for row in rows:
            record = record_of(row)
            admitted = self._admit(row, record)
            if isinstance(admitted, Rejected):
                ended.append(Ended(admitted, _now()))
                continue
            first = fetched is None
            if fetched is None:
                fetched = self._fetch(record, self._protocols(row))
            end = (
                self._refused(record, fetched) if isinstance(fetched, Ended) else self._keep(record, admitted, fetched)
            )
            ended.append(end if first else _at_no_cost(end))
        return ended

    def _protocols(self, row: Row) -> tuple[str, ...]:
        return self.protocols.get(row["source_id"], PROTOCOLS)

    def _admit(self, row: Row, record: SourceRecord) -> tuple[str, str] | Rejected:
        """(licence, policy rule) of a row that may be asked for. Nothing has been requested so far."""
        if row["problem"]:
            return Rejected(record.row_id, "read", row["problem"], detail=f"row {row['line']}: {row['problem_detail']}")
        try:
            licence = normalise(record.licence)
            admitted = admit(record, self.policy)
        except LicenceError as error:
            return Rejected(record.row_id, "policy", "licence-unparsable", rule="licence-unknown", detail=str(error))
        return admitted if isinstance(admitted, Rejected) else (licence, admitted[1].rule)

    def _fetch(self, record: SourceRecord, protocols: Sequence[str]) -> _Fetched | Ended:
        """The bytes, when the site leaves us free to ask and what comes leaves us free to use it."""
        if (no := self.client.refusal(record.url, self.give_up_at)) is not None:
            return _unanswered(record, no, {}, 0)
        before = self.rights.before(record.url, protocols, self.give_up_at)
        if not before.allowed and before.transient and time.monotonic() >= self.give_up_at:
            return _late(record, before.said, Answer(), before.requests)
        if not before.allowed:
            return _refusal(record, before, before.said, Answer(), before.requests)
        if "robots.txt" in protocols and (interval_s := self.rights.crawl_delay_s(record.url)):
            self.client.slow_down(record.url, interval_s)
        hops = self.rights.hops(protocols, self.give_up_at)
        answer = self.client.get(record.url, give_up_at=self.give_up_at, before_hop=hops)
        requests = before.requests + hops.requests + answer.requests
        if answer.reason and answer.reason == hops.last.reason:
            return _refusal(record, hops.last, unite(before.said, hops.last.said), answer, requests)
        if answer.reason:
            return _unanswered(record, answer, before.said, requests)
        after = self.rights.after(answer.url, answer.headers, answer.data, protocols)
        said = unite(before.said, after.said)
        if not after.allowed:
            return _refusal(record, after, said, answer, requests)
        return _Fetched(answer, said, requests)

    def _refused(self, record: SourceRecord, fetched: Ended) -> Ended:
        """What stopped the fetch stops every row of it."""
        assert isinstance(fetched.result, Rejected)
        return replace(fetched, result=replace(fetched.result, row_id=record.row_id), at=_now())

    def _keep(self, record: SourceRecord, admitted: tuple[str, str], fetched: _Fetched) -> Ended:
        """One row's own hash and picture, of bytes that it may share with others."""
        answer = fetched.answer
        try:
            check_hash(answer, record.expected_hash)
        except WebError as error:
            transient = error.reason in TRANSIENT
            rejected = Rejected(record.row_id, "fetch", error.reason, detail=error.detail, transient=transient)
            return _ended(rejected, fetched.said, answer, fetched.requests)
        if time.monotonic() >= self.give_up_at:
            return _late(record, fetched.said, answer, fetched.requests)
        made = self.decoders.run(answer.data, {"boxes": record.boxes})
        if isinstance(made, Crash):
            made = {"reason": made.reason, "detail": made.detail}
        if "reason" in made:
            return _ended(_unusable(record, made), fetched.said, answer, fetched.requests)
        licence, rule = admitted
        sample = Sample(
            key=record.row_id,
            caption=record.caption,
            sha256=answer.sha256,
            source_id=record.source_id,
            source_url=record.url,
            source_page=record.source_page,
            licence=licence,
            licence_url=record.licence_url,
            creator=record.creator,
            attribution=record.attribution or f"{record.creator or record.source_id} ({licence})",
            language=record.language,
            rights=json.dumps(timeless(dict(fetched.said)), sort_keys=True),
            decision=rule,
            extra=record.extra,
            **made,
        )
        return _ended(sample, fetched.said, answer, fetched.requests)


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Bytes that may be used, and what was said of them."""

    answer: Answer
    said: Mapping[str, Any]
    requests: int


def planned_rows(unit: WorkUnit) -> list[dict[str, Any]]:
    """The unit's rows, in plan order, read from the plan table's files. Raises `ValueError` when some are missing."""
    wanted = (ds.field("unit_id") == unit.unit_id) & (ds.field("generation") == unit.generation)
    rows = ds.dataset([local_path(file) for file in unit.files], format="parquet").to_table(filter=wanted)
    if rows.num_rows != unit.planned:
        raise ValueError(f"unit {unit.unit_id}: {rows.num_rows} rows in {unit.files}, {unit.planned} were planned")
    return rows.sort_by("place").to_pylist()


def record_of(row: Row) -> SourceRecord:
    """The record in a row of the plan."""
    return SourceRecord(**{name: row[name] for name in SourceRecord.__dataclass_fields__})


def in_order(
    threads: ThreadPoolExecutor, function: Callable[[Item], Done], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Done]]:
    """(item, result) in the items' order, with at most `ahead` under way."""
    under_way: deque[tuple[Item, Future[Done]]] = deque()
    for item in items:
        if len(under_way) >= ahead:
            first, result = under_way.popleft()
            yield first, result.result()
        under_way.append((item, threads.submit(function, item)))
    while under_way:
        first, result = under_way.popleft()
        yield first, result.result()


def local_path(uri: str) -> str:
    """A path of Spark's (`file:///…`) as Python opens it."""
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri


def _ended(result: Sample | Rejected, said: Mapping[str, Any], answer: Answer, requests: int) -> Ended:
    return Ended(result, _now(), said, answer.status, requests, answer.n_bytes, round(1000 * answer.seconds))


def _unanswered(record: SourceRecord, answer: Answer, said: Mapping[str, Any], requests: int) -> Ended:
    rejected = Rejected(record.row_id, "fetch", answer.reason, detail=answer.detail, transient=answer.transient)
    return _ended(rejected, said, answer, requests)


def _late(record: SourceRecord, said: Mapping[str, Any], answer: Answer, requests: int) -> Ended:
    """The unit's time was over before the row was whole, which says nothing about its site or its picture."""
    rejected = Rejected(record.row_id, "fetch", "unit-deadline", detail="during its turn", transient=True)
    return _ended(rejected, said, answer, requests)


def _at_no_cost(end: Ended) -> Ended:
    """A row that another row's fetch served has cost nothing itself."""
    return replace(end, requests=0, n_bytes=0, fetch_ms=0)


def _refusal(record: SourceRecord, no: Finding, said: Mapping[str, Any], answer: Answer, requests: int) -> Ended:
    rejected = Rejected(record.row_id, "rights", no.reason, detail=no.detail, transient=no.transient)
    ended = _ended(rejected, said, answer, requests)
    return replace(ended, sha256=answer.sha256) if answer.data else ended


def _unusable(record: SourceRecord, made: Mapping[str, str]) -> Rejected:
    reason = made["reason"]
    stage = "decode" if reason in decoding.REASONS else "transform"
    transient = reason in decoding.TRANSIENT
    return Rejected(record.row_id, stage, reason, detail=made["detail"][:300], transient=transient)  # type: ignore[arg-type]


def _failing_hosts(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Host -> rows that failed there, for the hosts where most did."""
    failed = (o["source_url"] for o in outcomes if o["stage"] in ("fetch", "rights"))
    return dict(Counter(urlsplit(url).hostname or "" for url in failed).most_common(_MAX_HOSTS))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
