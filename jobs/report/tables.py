"""SQL over a catalog's Delta tables and a manifest's live rows, in this process and without a JVM.

The engine is DataFusion inside `deltalake`, a reader that is not the writer: what it reads, any Delta reader does.
Results stream. Queries that compare sets of row ids hold the ids (see docs/adr); none holds the rows.

Tables: `plan`, `outcomes` (the catalog's; see `licet.records.OUTCOME_SCHEMA`) and `manifest` (columns `MANIFEST_ROWS`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import TableNotFoundError

from licet.errors import UsageError
from licet.manifest import Manifest

MANIFEST_ROWS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("source_url", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("credited", pa.bool_(), nullable=False),
    ]
)
"""What the checks need of each live row of a manifest."""

_IN_ORDER = {"datafusion.execution.target_partitions": "1"}
"""One partition: rows without ORDER BY come as the table lists its files, so a report is the same when made again."""


class Tables:
    """The tables of one audit, open for SQL."""

    def __init__(self, engine: QueryBuilder) -> None:
        self._engine = engine

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Result of a query, batch by batch."""
        yield from pa.RecordBatchReader.from_stream(self._engine.execute(sql))

    def rows(self, sql: str) -> Iterator[dict[str, Any]]:
        """Result of a query, row by row."""
        for batch in self.batches(sql):
            yield from batch.to_pylist()

    def number(self, sql: str) -> int:
        """The one number that a query answers with; 0 for NULL."""
        (value,) = next(iter(self.rows(sql))).values()
        return int(value or 0)


@contextmanager
def open_tables(catalog: str, manifest: Manifest) -> Iterator[Tables]:
    """Open a catalog's tables beside a manifest's rows, which are copied to a temporary table (about 30 bytes a row).

    Raises `UsageError` when the catalog lacks a table, `ManifestDamagedError` for a damaged page or index.
    """
    engine = QueryBuilder(_IN_ORDER)
    for name in ("plan", "outcomes"):
        engine.register(name, _open(f"{catalog.rstrip('/')}/{name}"))
    with tempfile.TemporaryDirectory(prefix="licet-audit-") as folder:
        write_deltalake(folder, pa.RecordBatchReader.from_batches(MANIFEST_ROWS, _manifest_rows(manifest)))
        engine.register("manifest", DeltaTable(folder))
        yield Tables(engine)


def quoted(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _open(path: str) -> DeltaTable:
    try:
        return DeltaTable(path)
    except TableNotFoundError as error:
        raise UsageError(f"there is no Delta table at {path}: name the catalog folder that `licet` wrote.") from error


def _manifest_rows(manifest: Manifest) -> Iterator[pa.RecordBatch]:
    for entry in manifest.entries():
        index = manifest.index(entry, next(iter(entry.files))).table
        live = index.filter(index["live"])
        credited = pc.or_(pc.not_equal(live["creator"], ""), pc.not_equal(live["attribution"], ""))
        columns = [live["key"], live["source_url"], live["licence"], credited]
        yield from pa.table(columns, schema=MANIFEST_ROWS).to_batches()
