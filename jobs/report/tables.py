"""SQL over a catalog's Delta tables and a manifest's live rows, in this process and without a JVM.

The engine is DataFusion inside `deltalake`, a reader that is not the writer: what it reads, any Delta reader does.
Results stream. A query that compares sets of row ids holds the ids (100 to 200 bytes each), so it is asked slice by
slice of the ids: memory does not grow with the catalog.

Tables: `outcomes` (the catalog's; see `licet.records.OUTCOME_SCHEMA`), `manifest` (columns `MANIFEST_ROWS`) and, in
queries by slice, `plan` (row ids of frozen plans: rows of a plan whose writing was cut short were never planned).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from licet.errors import DamagedError, UsageError
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


ROWS_PER_SLICE = 4_000_000


class Tables:
    """The tables of one audit, open for SQL."""

    def __init__(self, engine: QueryBuilder, rows_per_slice: int) -> None:
        self._engine = engine
        rows = max(self.number(f"SELECT count(*) FROM {name}") for name in ("plan_rows", "outcomes", "manifest"))
        frozen = self.rows("SELECT DISTINCT generation FROM commits WHERE kind = 'plan' ORDER BY generation")
        self._slices = _slices(rows, rows_per_slice, [row["generation"] for row in frozen])

    def rows(self, sql: str) -> Iterator[dict[str, Any]]:
        """Result of a query, row by row; for queries whose state does not grow with the number of rows.

        Raises `DamagedError` when a table's file is missing, damaged or without a column.
        """
        batches = self._batches(sql)
        while True:
            try:
                batch = next(batches, None)
            except (DeltaError, pa.ArrowException) as error:
                raise _damaged("a table of the catalog", error) from error
            if batch is None:
                return
            yield from batch.to_pylist()

    def _batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        yield from pa.RecordBatchReader.from_stream(self._engine.execute(sql))

    def number(self, sql: str) -> int:
        """The one number that a query answers with; 0 for NULL."""
        (value,) = next(iter(self.rows(sql))).values()
        return int(value or 0)

    def rows_by_slice(self, sql: str) -> Iterator[dict[str, Any]]:
        """Results of a query that relates rows to others with the same row id, asked for each slice, ascending."""
        for slice in self._slices:
            yield from self.rows(slice + sql)

    def sum_by_slice(self, sql: str) -> int:
        """Sum of the one number that such a query answers with in each slice."""
        return sum(self.number(slice + sql) for slice in self._slices)


def _slices(rows: int, rows_per_slice: int, generations: list[int]) -> list[str]:
    """Prefixes that narrow every table of a query to a range of row ids, and the plan to these generations.

    The ranges cover all text, whatever ids are; ids are hexadecimal hashes, so that ranges are of one size.
    """
    digits = next(n for n in range(3) if n == 2 or rows <= rows_per_slice * 16**n)
    bounds = [f"{number:0{digits}x}" for number in range(1, 16**digits)] if digits else []
    frozen = f"generation IN ({', '.join(map(str, generations)) or 'NULL'})"
    slices = []
    for low, high in zip(["", *bounds], [*bounds, ""], strict=True):
        ids = f"row_id >= {quoted(low)}" + (f" AND row_id < {quoted(high)}" if high else "")
        slices.append(
            f"WITH plan AS (SELECT row_id FROM plan_rows WHERE {frozen} AND {ids}), "
            f"outcomes AS (SELECT * FROM outcomes WHERE {ids}), manifest AS (SELECT * FROM manifest WHERE {ids}) "
        )
    return slices


@contextmanager
def open_tables(catalog: str, manifest: Manifest, rows_per_slice: int = ROWS_PER_SLICE) -> Iterator[Tables]:
    """Open a catalog's tables beside a manifest's rows, which are copied to a temporary table (about 30 bytes a row).

    Raises `UsageError` when the catalog lacks a table, `DamagedError` for a damaged table, page or index.
    """
    engine = QueryBuilder(_IN_ORDER)
    for name, table in (("plan_rows", "plan"), ("commits", "commits"), ("outcomes", "outcomes")):
        engine.register(name, _open(f"{catalog.rstrip('/')}/{table}"))
    with tempfile.TemporaryDirectory(prefix="licet-audit-") as folder:
        write_deltalake(folder, pa.RecordBatchReader.from_batches(MANIFEST_ROWS, _manifest_rows(manifest)))
        engine.register("manifest", DeltaTable(folder))
        yield Tables(engine, rows_per_slice)


def quoted(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _open(path: str) -> DeltaTable:
    try:
        return DeltaTable(path)
    except TableNotFoundError as error:
        raise UsageError(f"there is no Delta table at {path}: name the catalog folder that `licet` wrote.") from error
    except DeltaError as error:
        raise _damaged(path, error) from error


def _damaged(what: str, error: Exception) -> DamagedError:
    """The engine's first line says what is wrong; the rest is its stack."""
    said = str(error).split("\n")[0][:400]
    return DamagedError(f"{what} cannot be read ({said}). Restore its files, or ingest again.")


def _manifest_rows(manifest: Manifest) -> Iterator[pa.RecordBatch]:
    for entry in manifest.entries():
        index = manifest.index(entry, next(iter(entry.files))).table
        live = index.filter(index["live"])
        credited = pc.or_(pc.not_equal(live["creator"], ""), pc.not_equal(live["attribution"], ""))
        columns = [live["key"], live["source_url"], live["licence"], credited]
        yield from pa.table(columns, schema=MANIFEST_ROWS).to_batches()
