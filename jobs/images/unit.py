"""One work unit: rows of the plan in, shards and outcomes out. The only file that composes the stages.

    policy ─► fetch ─► decode ─► resize ─► shards        a row that stops on the way leaves an outcome with its reason

A unit writes under names that nobody else uses, in `<output>/shards/_shards/<unit>/<attempt>.…`; nothing of it counts
before its report is committed. Shards hold no times, so the same input gives the same bytes on any engine.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.faults import write_point
from jobs.images.decode import decode
from jobs.images.fetch import Fetcher, fetch
from jobs.images.options import ImageOptions
from jobs.images.records import WorkUnit
from jobs.images.resize import resize
from jobs.layout import SHARDS
from jobs.web.options import FetchOptions
from licet.licences import LicenceError, normalise
from licet.policy import Policy, admit
from licet.records import OUTCOME_SCHEMA, Rejected, Sample, SourceRecord
from licet.shards import EXTENSIONS, ShardFormat, ShardWriter, open_writer
from licet.shards.index import (
    ShardIndex,
    content_hash,
    file_sha256,
    fsync_folder,
    index_path,
    total_by,
)  # fmt: skip

_AHEAD = 4
"""Rows under way for each thread: bounds what waits for its turn to be written."""

Item = TypeVar("Item")
Walked = TypeVar("Walked")


@dataclass(frozen=True)
class UnitSpec:
    """What is done to every unit of a run."""

    output: str
    """Folder on this machine, shared with all executors."""
    formats: tuple[ShardFormat, ...]
    policy: Policy
    fetch: FetchOptions
    image: ImageOptions


def run_unit(unit: WorkUnit, spec: UnitSpec) -> dict[str, Any]:
    """Work a unit off and report it: the fields of a `CommitRow`, times and options left out."""
    attempt = uuid.uuid4().hex
    folder = Path(spec.output) / SHARDS / unit.unit_id
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[dict[str, Any]] = []
    denied: list[str] = []
    with (
        _fetcher(spec.fetch) as fetcher,
        ThreadPoolExecutor(spec.fetch.threads, thread_name_prefix="licet-fetch") as threads,
        _Shards(folder / attempt, spec.formats) as shards,
    ):
        walk = partial(walk_row, fetcher=fetcher, policy=spec.policy, image=spec.image)
        for row, (result, at) in in_order(threads, walk, planned_rows(unit), _AHEAD * spec.fetch.threads):
            if isinstance(result, Sample):
                shards.add(result)
            elif result.stage == "policy":
                denied.append(result.row_id)
            outcomes.append(_outcome(row, result, unit, at) | {"requests": fetcher.sent[row["row_id"]]})
        files = shards.close()
        sent = dict(fetcher.sent)
    write_point("index whole, no outcomes")
    outcomes_path = folder / f"{attempt}.outcomes.parquet"
    write_outcomes(outcomes_path, outcomes)
    write_point("outcomes whole, no report")
    index = shards.index
    counts = {name: total_by([index], name) if index else {} for name in ("licence", "language", "source_id")}
    return {
        "kind": "unit",
        "unit_id": unit.unit_id,
        "generation": unit.generation,
        "attempt": attempt,
        "first_ordinal": unit.first_ordinal,
        "planned": unit.planned,
        **count_outcomes(outcomes),
        "licences": counts["licence"],
        "languages": counts["language"],
        "sources": counts["source_id"],
        "requests": sum(sent.values()),
        "requests_for_denied_rows": sum(sent.get(row_id, 0) for row_id in denied),
        "rows": len(index) if index else 0,
        "content": content_hash(index.table.column("content").to_pylist()) if index else "",
        "files": [
            {k: relative(v, spec) if k in ("path", "index_path") else v for k, v in file.items()} for file in files
        ],
        "outcomes_path": relative(str(outcomes_path), spec),
        "outcomes_sha256": file_sha256(str(outcomes_path)),
    }


def walk_row(
    row: Mapping[str, Any], fetcher: Fetcher, policy: Policy, image: ImageOptions
) -> tuple[Sample | Rejected, datetime.datetime]:
    """One row's walk through the stages, and when it ended. The policy speaks before anything is requested."""
    return _walk(row, fetcher, policy, image), datetime.datetime.now(datetime.timezone.utc)


def _walk(row: Mapping[str, Any], fetcher: Fetcher, policy: Policy, image: ImageOptions) -> Sample | Rejected:
    record = record_of(row)
    if row["problem"]:
        return Rejected(record.row_id, "read", row["problem"], detail=f"row {row['line']}: {row['problem_detail']}")
    try:
        licence = normalise(record.licence)
        admitted = admit(record, policy)
    except LicenceError as error:
        return Rejected(record.row_id, "policy", "licence-unparsable", rule="licence-unknown", detail=str(error))
    if isinstance(admitted, Rejected):
        return admitted
    fetched = fetch(record, fetcher)
    if isinstance(fetched, Rejected):
        return fetched
    decoded = decode(fetched, image.max_pixels, image.background_rgb)
    if isinstance(decoded, Rejected):
        return decoded
    stored = resize(decoded, image.size_px, image.resize, image.upscale, image.format, image.quality)
    return Sample(
        key=record.row_id,
        payload=stored.payload,
        payload_format=stored.payload_format,
        caption=record.caption,
        width=stored.width,
        height=stored.height,
        original_width=decoded.original_width,
        original_height=decoded.original_height,
        sha256=fetched.sha256,
        phash=stored.phash,
        source_id=record.source_id,
        source_url=record.url,
        source_page=record.source_page,
        licence=licence,
        licence_url=record.licence_url,
        creator=record.creator,
        attribution=record.attribution or f"{record.creator or record.source_id} ({licence})",
        language=record.language,
        rights="{}",
        decision=admitted[1].rule,
    )


def planned_rows(unit: WorkUnit) -> list[dict[str, Any]]:
    """The unit's rows, in plan order, read from the plan table's files. Raises `ValueError` when some are missing."""
    wanted = (ds.field("unit_id") == unit.unit_id) & (ds.field("generation") == unit.generation)
    rows = ds.dataset([local_path(file) for file in unit.files], format="parquet").to_table(filter=wanted)
    if rows.num_rows != unit.planned:
        raise ValueError(f"unit {unit.unit_id}: {rows.num_rows} rows in {unit.files}, {unit.planned} were planned")
    return rows.sort_by("ordinal").to_pylist()


def record_of(row: Mapping[str, Any]) -> SourceRecord:
    """The record in a row of the plan."""
    return SourceRecord(**{name: row[name] for name in SourceRecord.__dataclass_fields__})


def in_order(
    threads: ThreadPoolExecutor, function: Callable[[Item], Walked], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Walked]]:
    """(item, result) in the items' order, with at most `ahead` under way."""
    under_way: deque[tuple[Item, Future[Walked]]] = deque()
    for item in items:
        if len(under_way) >= ahead:
            first, result = under_way.popleft()
            yield first, result.result()
        under_way.append((item, threads.submit(function, item)))
    while under_way:
        first, result = under_way.popleft()
        yield first, result.result()


def write_outcomes(path: Path, outcomes: list[dict[str, Any]]) -> None:
    """Write rows of `OUTCOME_SCHEMA` durably."""
    with open(path, "xb") as file:
        pq.write_table(pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    fsync_folder(str(path.parent))


def count_outcomes(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """kept, rejected and reasons, as a `CommitRow` has them."""
    states = Counter((o["state"], o["reason"]) for o in outcomes)
    reasons = {reason: n for (state, reason), n in sorted(states.items()) if state == "rejected"}
    kept = sum(n for (state, _), n in states.items() if state == "kept")
    return {"kept": kept, "rejected": sum(reasons.values()), "reasons": reasons}


def relative(path: str, spec: UnitSpec) -> str:
    """A path as `commits` keeps it."""
    return os.path.relpath(path, spec.output)


def local_path(uri: str) -> str:
    """A path of Spark's (`file:///…`) as Python opens it."""
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri


def _fetcher(options: FetchOptions) -> Fetcher:
    values = asdict(options)
    del values["threads"]
    return Fetcher(**values)


def _outcome(
    row: Mapping[str, Any], result: Sample | Rejected, unit: WorkUnit, at: datetime.datetime
) -> dict[str, Any]:
    """One row of an outcomes file."""
    said = {name: row[name] for name in OUTCOME_SCHEMA.names if name in row} | {
        "source_url": row["url"],
        "rights": "{}",
    }
    place = {"row_id": row["row_id"], "generation": unit.generation, "unit_id": unit.unit_id, "at": at}
    nothing = {
        "transient": False,
        "n_bytes": 0,
        "fetch_ms": 0,
        "extra": "{}",
        "exif": "{}",
        "http_status": 0,
        "requests": 0,
        "width": 0,
        "height": 0,
        "original_width": 0,
        "original_height": 0,
    }
    empty = dict.fromkeys(OUTCOME_SCHEMA.names, "") | nothing | said | place
    if isinstance(result, Rejected):
        return empty | {"state": "rejected"} | asdict(result)
    kept = {name: value for name, value in asdict(result).items() if name in OUTCOME_SCHEMA.names}
    return empty | kept | {"state": "kept", "rule": result.decision, "http_status": 200}


class _Shards:
    """The same samples in every format. Files are made with the first sample: a unit that keeps nothing has none."""

    def __init__(self, stem: Path, formats: tuple[ShardFormat, ...]) -> None:
        self._stem, self._formats = stem, formats
        self._writers: dict[ShardFormat, ShardWriter] = {}
        self._failed = False
        self.index: ShardIndex | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        for writer in self._writers.values() if kind is not None else ():
            writer.__exit__(kind, error, trace)

    def add(self, sample: Sample) -> None:
        if not self._writers:
            for format in self._formats:
                self._writers[format] = open_writer(format, self._path(format))
        for writer in self._writers.values():
            writer.add(sample)
        write_point("shard half written")

    def close(self) -> list[dict[str, Any]]:
        """Make all shards durable; their paths, sizes and hashes."""
        files = []
        for format, writer in self._writers.items():
            self.index = writer.close()
            write_point("shard whole, no index")
            path = self._path(format)
            index = index_path(path)
            files.append(
                {
                    "format": format,
                    "path": path,
                    "sha256": file_sha256(path),
                    "n_bytes": os.path.getsize(path),
                    "index_path": index,
                    "index_sha256": file_sha256(index),
                }
            )
        return files

    def _path(self, format: ShardFormat) -> str:
        return f"{self._stem}{EXTENSIONS[format]}"
