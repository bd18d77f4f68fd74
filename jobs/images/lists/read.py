"""All rows of all lists as one DataFrame, in list order. No row passes through the driver.

    scan = scan_lists(spark, find_lists({yaml path: source}))
    with read_sources(spark, scan) as rows: ...

`rows.frame` has ordinal (from 0, in the order of sources, files and rows), line, url_hash, `RECORD_FIELDS` and
`DERIVED_FIELDS`; rows with one canonical URL have one url_hash. This file knows Spark and lists, not plans or policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.images.lists.columnar import rows_of
from jobs.images.lists.find import ListTable, extra_columns
from jobs.images.lists.places import READ_ERRORS
from jobs.images.lists.record import DERIVED_FIELDS, RECORD_FIELDS, mapping_of, to_record
from jobs.images.lists.scan import Part, Scan
from licet.errors import DamagedError

LISTED = pa.schema(
    [
        pa.field("part", pa.int32()),
        pa.field("block", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("line", pa.int64()),
        *[pa.field(name, pa.string()) for name in (*RECORD_FIELDS, *DERIVED_FIELDS)],
    ]
)
_LISTED_DDL = ", ".join(f"{f.name} {({'int32': 'int', 'int64': 'bigint'}).get(str(f.type), 'string')}" for f in LISTED)
_ROWS_PER_BATCH = 5_000
_MOST_TASKS = 10_000
_DAMAGED = "list-damaged"
"""In the place of a problem: not a row, but a file that cannot be read to its end."""

_BLOCK = "\x1f"
"""Between a file's name and where a block begins in it."""


@dataclass(frozen=True)
class Rows:
    """The rows of all lists."""

    frame: DataFrame
    n: int


@contextmanager
def read_sources(spark: SparkSession, scan: Scan) -> Iterator[Rows]:
    """Read the lists side by side, each part as a stream, into the executors' disks.

    Raises `DamagedError` for a file that cannot be read to its end.
    """
    frames: list[DataFrame] = []
    files: list[tuple[int, Part]] = []
    for number, part in enumerate(scan.parts):
        if isinstance(part, Part):
            files.append((number, part))
        else:
            rows = _table_rows(spark, part)
            frames.append(rows.mapInArrow(partial(_read_table, number, part), _LISTED_DDL))
    if files:
        tasks = spark.range(0, len(files), 1, min(len(files), _MOST_TASKS))
        frames.append(tasks.mapInArrow(partial(_read_parts, files), _LISTED_DDL))
    # On disk, not in memory: read once and used twice, however long the lists are.
    listed = reduce(DataFrame.unionByName, frames).persist(StorageLevel.DISK_ONLY)
    try:
        blocks = _blocks(listed)
        yield Rows(_in_order(spark, listed, blocks), sum(block.rows for block in blocks))
    finally:
        listed.unpersist()


def _blocks(listed: DataFrame) -> list[Row]:
    """How many rows each part (of a Delta table: each block of a file) has, in list order."""
    damage = F.max(F.when(F.col("problem") == _DAMAGED, F.col("problem_detail"))).alias("bad")
    first, n = F.min("position").alias("first"), (F.max("position") - F.min("position") + 1).alias("n")
    found = listed.groupBy("part", "block").agg(first, n, F.count("*").alias("rows"), damage).collect()
    if bad := [row.bad for row in found if row.bad]:
        raise DamagedError(f"{'; '.join(sorted(bad)[:3])}. Nothing was planned: restore the list, then run again.")
    return sorted(found, key=lambda row: (row.part, row.block))


def _in_order(spark: SparkSession, listed: DataFrame, blocks: Sequence[Row]) -> DataFrame:
    """Give each row its place among all rows, and rows of Delta tables their number in their file."""
    starts: dict[str, list[Any]] = {"part": [], "block": [], "start": [], "earlier": []}
    total, in_file, file = 0, 0, ""
    for row in blocks:
        in_file = in_file if row.block.rpartition(_BLOCK)[0] == file else 0
        file = row.block.rpartition(_BLOCK)[0]
        values = (row.part, row.block, total - row.first, in_file - row.first + 1)
        for column, value in zip(starts.values(), values, strict=True):
            column.append(value)
        total, in_file = total + row.n, in_file + row.n
    types = pa.schema([("part", pa.int32()), ("block", pa.string()), ("start", pa.int64()), ("earlier", pa.int64())])
    table = spark.createDataFrame(pa.table(starts, schema=types))
    line = F.when(F.col("block") == "", F.col("line")).otherwise(F.col("earlier") + F.col("position")).alias("line")
    url_hash = F.xxhash64(F.when(F.col("canonical_url") == "", F.col("url")).otherwise(F.col("canonical_url")))
    ordinal = (F.col("start") + F.col("position")).alias("ordinal")
    rows = listed.join(F.broadcast(table), ["part", "block"])
    return rows.select(ordinal, line, url_hash.alias("url_hash"), *RECORD_FIELDS, *DERIVED_FIELDS)


def _read_parts(files: Sequence[tuple[int, Part]], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: the rows of the parts whose numbers arrive."""
    for batch in batches:
        for task in batch.column("id").to_pylist():
            number, part = files[task]
            yield from _in_batches(_records(number, part))


def _records(number: int, part: Part) -> Iterator[dict[str, Any]]:
    position = 0
    source = part.file.source
    try:
        for row in part.rows():
            yield {"part": number, "block": "", "position": position, "line": row.line} | to_record(row, source)
            position += 1
    except READ_ERRORS as error:
        said = f"the list {part.file.place.name} cannot be read after {position} rows: {type(error).__name__}: {error}"
        nothing = dict.fromkeys((*RECORD_FIELDS, *DERIVED_FIELDS), "")
        place = {"part": number, "block": "", "position": position, "line": 0}
        yield nothing | place | {"problem": _DAMAGED, "problem_detail": said}


def _in_batches(records: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    waiting: list[dict[str, Any]] = []
    for record in records:
        waiting.append(record)
        if len(waiting) == _ROWS_PER_BATCH:
            yield pa.RecordBatch.from_pylist(waiting, schema=LISTED)
            waiting = []
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, schema=LISTED)


def _table_rows(spark: SparkSession, table: ListTable) -> DataFrame:
    """A Delta list's rows, each with its block of a file, and a number of which only the order in the block is used."""
    stored = spark.read.format("delta").option("versionAsOf", table.version).load(table.source.location)
    block = F.lpad(F.col("_metadata.file_block_start").cast("string"), 20, "0")
    return stored.select(
        F.concat(F.col("_metadata.file_path"), F.lit(_BLOCK), block).alias("block"),
        F.monotonically_increasing_id().alias("position"),
        F.struct(*[F.col(f"`{name}`") for name in _wanted(table)]).alias("row"),
    )


def _wanted(table: ListTable) -> list[str]:
    return list(dict.fromkeys((*mapping_of(table.source).values(), *extra_columns(table.source, table.columns))))


def _read_table(number: int, table: ListTable, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: rows of a Delta list."""
    mapped = list(dict.fromkeys(mapping_of(table.source).values()))
    for batch in batches:
        rows = pa.RecordBatch.from_struct_array(batch.column("row"))
        places = zip(batch.column("block").to_pylist(), batch.column("position").to_pylist(), strict=True)
        found = rows_of(rows, [0] * len(batch), mapped, extra_columns(table.source, table.columns))
        yield from _in_batches(
            {"part": number, "block": block, "position": position, "line": row.line} | to_record(row, table.source)
            for (block, position), row in zip(places, found, strict=True)
        )
