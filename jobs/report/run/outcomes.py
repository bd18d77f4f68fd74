"""One pass over the current outcomes, a batch at a time: every count and histogram of the report.

Memory is that of a few batches and of bounded counts; it does not grow with the number of rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from jobs.report.run.buckets import BoundedCounts, Histogram, Series, steps
from licet.records import OUTCOME_SCHEMA

COLUMNS = (
    "row_id", "unit_id", "state", "stage", "reason", "http_status", "n_bytes", "fetch_ms", "requests", "at",
    "original_width", "original_height", "source_id", "source_url", "licence",
)  # fmt: skip
_BATCH_ROWS = 65_536
_NAMES = 1_000
_HOSTS = 5_000
_LISTED = 25
_LISTED_HOSTS = 15
_SIDES_PX = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@?#]*@)?(?P<host>\[[^\]/?#]*\]|[^/:?#]*)"
_NOT_THE_HOSTS_FAULT = ("read", "policy", "deduplicate", "revoke")


class Outcomes:
    """What is counted of the outcomes. `add` takes batches with `COLUMNS`."""

    def __init__(self, thumbnails: int = 0) -> None:
        self._thumbnails = thumbnails
        self.samples: list[tuple[str, str]] = []
        """(row id, unit id) of some kept rows: those with the smallest ids, which are hashes, so an even choice."""
        self.requests = self.n_bytes = 0
        self._states = BoundedCounts(_NAMES)
        self._statuses = BoundedCounts(_NAMES)
        self._licences, self._sources = BoundedCounts(_NAMES), BoundedCounts(_NAMES)
        self._hosts = BoundedCounts(_HOSTS)
        self._sizes = Histogram(steps(1_000, 100_000_000))
        self._sides = Histogram(_SIDES_PX)
        self._times = Histogram(steps(1, 100_000))
        self._series = Series(("rows", "kept", "n_bytes"))

    def add(self, batch: pa.RecordBatch) -> None:
        table = pa.Table.from_batches([batch])
        kept = table.filter(pc.field("state") == "kept")
        self.requests += pc.sum(table["requests"]).as_py() or 0
        self.n_bytes += pc.sum(table["n_bytes"]).as_py() or 0
        self._states.add(_counts(table, "state", "stage", "reason"))
        self._licences.add(_counts(table, "licence", "state"))
        self._sources.add(_counts(table, "source_id", "state"))
        self._statuses.add(_counts(table.filter(pc.field("http_status") > 0), "http_status"))
        self._add_hosts(table)
        self._add_sizes(table, kept)
        self._add_times(table)
        self._sample(kept)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        states = self._states.most_common()
        rejected = [(stage, reason, n) for (state, stage, reason), n in states if state == "rejected"]
        kept = sum(n for (state, _, _), n in states if state == "kept")
        return {
            "rows": self._states.total(),
            "kept": kept,
            "rejected": sum(n for *_, n in rejected),
            "reasons": [{"stage": stage, "reason": reason, "rows": n} for stage, reason, n in rejected],
            "hosts": self._worst_hosts(),
            "statuses": [{"status": status, "rows": n} for (status,), n in self._statuses.most_common(_LISTED)],
            "licences": _by_state(self._licences),
            "sources": _by_state(self._sources),
            "requests": self.requests,
            "n_bytes": self.n_bytes,
            "sizes": {"rows": self._sizes.rows(), "median": self._sizes.median()},
            "short_sides": {"rows": self._sides.rows(), "median": self._sides.median()},
            "fetch_ms": {"rows": self._times.rows(), "median": self._times.median()},
            "series": {"width_s": self._series.width_s, **self._series.columns()},
        }

    def _add_hosts(self, table: pa.Table) -> None:
        mine = ~pc.field("stage").isin(_NOT_THE_HOSTS_FAULT)
        failed = table.filter((pc.field("state") == "rejected") & mine)
        if not failed.num_rows:
            return
        found = pc.extract_regex(pc.utf8_lower(failed["source_url"].combine_chunks()), pattern=_HOST)
        host = pc.fill_null(pc.struct_field(found, "host"), "")
        self._hosts.add(_counts(pa.table({"host": host, "reason": failed["reason"]}), "host", "reason"))

    def _add_sizes(self, table: pa.Table, kept: pa.Table) -> None:
        self._sizes.add(_positive(kept["n_bytes"]))
        self._sides.add(_positive(pc.min_element_wise(kept["original_width"], kept["original_height"])))
        self._times.add(_positive(table["fetch_ms"]))

    def _add_times(self, table: pa.Table) -> None:
        seconds = table["at"].cast(pa.timestamp("s", tz="UTC"), safe=False).cast(pa.int64()).to_numpy()
        is_kept = pc.equal(table["state"], "kept").to_numpy()
        self._series.add(seconds, [np.ones(len(seconds)), is_kept.astype(float), table["n_bytes"].to_numpy()])

    def _sample(self, kept: pa.Table) -> None:
        if not kept.num_rows or not self._thumbnails:
            return
        few = kept.take(pc.select_k_unstable(kept, k=self._thumbnails, sort_keys=[("row_id", "ascending")]))
        found = zip(few["row_id"].to_pylist(), few["unit_id"].to_pylist(), strict=True)
        self.samples = sorted({*self.samples, *found})[: self._thumbnails]

    def _worst_hosts(self) -> list[dict[str, Any]]:
        by_host: dict[str, dict[str, int]] = {}
        for (host, reason), n in self._hosts.most_common():
            by_host.setdefault(host, {})[reason] = n
        worst = sorted(by_host.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:_LISTED_HOSTS]
        return [{"host": host, "rows": sum(reasons.values()), "reasons": reasons} for host, reasons in worst]


def read_outcomes(catalog: Path, thumbnails: int) -> Outcomes:
    """Count the catalog's current outcomes."""
    outcomes = Outcomes(thumbnails)
    files = DeltaTable(str(catalog / "outcomes")).file_uris()
    schema = pa.schema([OUTCOME_SCHEMA.field(name).with_nullable(True) for name in COLUMNS])
    schema = schema.set(schema.get_field_index("at"), pa.field("at", pa.timestamp("us", tz="UTC")))
    for batch in batches(files, schema):
        outcomes.add(batch)
    return outcomes


def batches(files: list[str], schema: pa.Schema) -> Any:
    """Record batches of Parquet files, few of them in memory at once."""
    if not files:
        return iter(())
    found = ds.dataset(files, format="parquet", schema=schema)
    return found.to_batches(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1)


def _counts(table: pa.Table, *names: str) -> dict[tuple[Any, ...], int]:
    """Rows by the values of these columns."""
    grouped = table.group_by(list(names)).aggregate([([], "count_all")]).to_pydict()
    return dict(zip(zip(*(grouped[name] for name in names), strict=True), grouped["count_all"], strict=True))


def _by_state(counts: BoundedCounts) -> list[dict[str, Any]]:
    """Name, kept and rejected rows, most kept first."""
    found: dict[str, dict[str, int]] = {}
    for (name, state), n in counts.most_common():
        found.setdefault(name, {"kept": 0, "rejected": 0})[state] += n
    listed = sorted(found.items(), key=lambda item: (-item[1]["kept"], -item[1]["rejected"], item[0]))[:_LISTED]
    return [{"name": name, **values} for name, values in listed]


def _positive(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = column.to_numpy()
    return values[values > 0]
