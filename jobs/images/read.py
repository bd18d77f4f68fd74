"""The lists of sources as one DataFrame of SourceRecords, in list order.

    find_lists({yaml path: Source}) -> Lists                 checked against the YAML
    with read_sources(spark, lists) as DataFrame: ...        read when something asks for its rows

A mapped column that a list lacks is a `ConfigError` with the YAML's line. A row without a usable URL stays a row:
`problem` says why, so that it is counted as rejected. This file knows lists and sources, not plans or policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import yaml
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.images.lists import Row, Unreadable, columns_of, digest_of, expand, is_text, rows_of
from licet.errors import ConfigError
from licet.sources import COLUMNS, Source

RECORD_FIELDS = (
    "source_id", "url", "caption", "licence", "licence_url", "creator", "attribution", "source_page", "language",
)  # fmt: skip
"""Text fields of a SourceRecord that come from a list, in their order there."""

LISTED = pa.schema(
    [
        pa.field("file_index", pa.int32()),
        pa.field("position", pa.int64()),
        pa.field("line", pa.int64()),
        *[pa.field(name, pa.string()) for name in RECORD_FIELDS],
        pa.field("problem", pa.string()),
        pa.field("problem_detail", pa.string()),
    ]
)
_LISTED_DDL = ", ".join(
    f"{f.name} {'int' if f.type == pa.int32() else 'bigint' if f.type == pa.int64() else 'string'}" for f in LISTED
)
_ROWS_PER_BATCH = 5_000


@dataclass(frozen=True)
class _File:
    path: str
    source: Source


@dataclass(frozen=True)
class _Table:
    """A Delta list, at the version that was found."""

    source: Source
    version: int


@dataclass(frozen=True)
class Lists:
    """The lists of all sources, found and checked but not read."""

    parts: tuple[_File | _Table, ...]
    """In the order of the sources and, of one source, of its files' names."""


def find_lists(sources: Mapping[str, Source]) -> Lists:
    """Find the lists of `{yaml path: source}`.

    Raises `ConfigError` for a location without files and for a column that a list lacks.
    """
    parts: list[_File | _Table] = []
    for yaml_path, source in sources.items():
        if source.format == "delta":
            parts.append(_checked_table(yaml_path, source))
        else:
            parts += [_File(path, source) for path in _checked_files(yaml_path, source)]
    return Lists(tuple(parts))


def digests_of(spark: SparkSession, lists: Lists) -> dict[str, list[str]]:
    """Source id -> SHA-256 of each of its list files, or a Delta list's version: equal when the rows are."""
    files = [part for part in lists.parts if isinstance(part, _File)]
    found = spark.sparkContext.parallelize([f.path for f in files], max(1, len(files))).map(digest_of).collect()
    digests: dict[str, list[str]] = {part.source.id: [] for part in lists.parts}
    for file, digest in zip(files, found, strict=True):
        digests[file.source.id].append(digest)
    for part in lists.parts:
        if isinstance(part, _Table):
            digests[part.source.id].append(f"version {part.version}")
    return digests


@contextmanager
def read_sources(spark: SparkSession, lists: Lists) -> Iterator[DataFrame]:
    """All rows: ordinal, row_id, line, `RECORD_FIELDS`, problem and problem_detail (empty for a usable row).

    Files are read side by side, each as a stream; no row passes through the driver.
    """
    frames: list[DataFrame] = []
    files: list[tuple[int, _File]] = []
    file_index = 0
    for part in lists.parts:
        if isinstance(part, _File):
            files.append((file_index, part))
            file_index += 1
        else:
            rows, names = _table_rows(spark, part)
            indexes = {name: file_index + i for i, name in enumerate(names)}
            frames.append(rows.mapInArrow(partial(_read_table, indexes, part.source), _LISTED_DDL))
            file_index += len(names)
    if files:
        tasks = spark.range(0, len(files), 1, len(files))
        frames.append(tasks.mapInArrow(partial(_read_files, files), _LISTED_DDL))
    listed = reduce(DataFrame.unionByName, frames).persist()  # read once, used twice
    try:
        yield _with_ids(listed)
    finally:
        listed.unpersist()


def to_record(row: Row | Unreadable, source: Source) -> dict[str, str]:
    """`RECORD_FIELDS`, problem and problem_detail of one row of a source."""
    record = dict.fromkeys((*RECORD_FIELDS, "problem", "problem_detail"), "") | {"source_id": source.id}
    if isinstance(row, Unreadable):
        return record | _defaults(record, source) | {"problem": row.reason, "problem_detail": row.detail[:300]}
    values = {field: _as_text(row.get(column)) for field, column in _wanted(source).items()}
    record |= {field: value for field, value in values.items() if value is not None}
    record["url"] = record["url"].strip()
    record |= _defaults(record, source)
    reason, detail = _problem(values, record)
    clean = {name: value if is_text(value) else _replaced(value) for name, value in record.items()}
    return clean | {"problem": reason, "problem_detail": detail}


def _defaults(record: Mapping[str, str], source: Source) -> dict[str, str]:
    """What the source says for rows that do not say it themselves."""
    licence = record["licence"].strip() or source.licence
    creator = record["creator"].strip() or source.creator
    language = record["language"] or (source.languages[0] if len(source.languages) == 1 else "und")
    credit = record["attribution"]
    if not credit and (creator or "{creator}" not in source.credit_template):
        credit = source.credit_template.format(
            creator=creator, licence=licence, source_page=record["source_page"], title=source.title
        )
    return {"licence": licence, "creator": creator, "language": language, "attribution": credit}


def _problem(values: Mapping[str, str | None], record: Mapping[str, str]) -> tuple[str, str]:
    if any(value is None for value in values.values()):
        wrong = ", ".join(field for field, value in values.items() if value is None)
        return "row-malformed", f"expected text for {wrong}"
    if not all(is_text(value) for value in record.values()):
        return "row-not-utf8", "its text is not UTF-8"
    url = record["url"]
    if not url:
        return "url-missing", "no URL"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        return "url-malformed", f"{error}: {url[:200]}"
    usable = usable and not any(character.isspace() for character in url)
    return ("", "") if usable else ("url-malformed", url[:250])


def _as_text(value: Any) -> str | None:
    """Text of a plain value, "" for nothing, None for what is not plain."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return None if isinstance(value, (dict, list, bytes)) else str(value)


def _replaced(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_files(files: list[tuple[int, _File]], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: the rows of the files whose numbers arrive."""
    for batch in batches:
        for number in batch.column("id").to_pylist():
            index, file = files[number]
            rows = enumerate(rows_of(file.path, file.source.format))
            yield from _in_batches(
                {"file_index": index, "position": position, "line": line} | to_record(row, file.source)
                for position, (line, row) in rows
            )


def _in_batches(rows: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    waiting: list[dict[str, Any]] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == _ROWS_PER_BATCH:
            yield pa.RecordBatch.from_pylist(waiting, schema=LISTED)
            waiting = []
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, schema=LISTED)


def _with_ids(listed: DataFrame) -> DataFrame:
    """Give each row its ordinal (by file, then by place in it) and its id (see `licet.records.row_id_of`)."""
    lengths = listed.groupBy("file_index").agg((F.max("position") + 1).alias("n"))
    earlier = Window.orderBy("file_index").rowsBetween(Window.unboundedPreceding, -1)
    starts = lengths.select("file_index", F.coalesce(F.sum("n").over(earlier), F.lit(0)).alias("start"))
    same = Window.partitionBy("source_id", "url").orderBy("ordinal")
    occurrence = (F.row_number().over(same) - 1).cast("string")
    row_id = F.substring(F.sha2(F.concat_ws("\x1f", "source_id", "url", occurrence), 256), 1, 32)
    rows = listed.join(F.broadcast(starts), "file_index").withColumn("ordinal", F.col("start") + F.col("position"))
    return rows.withColumn("row_id", row_id).select(
        "ordinal", "row_id", "line", *RECORD_FIELDS, "problem", "problem_detail"
    )


def _table_rows(spark: SparkSession, table: _Table) -> tuple[DataFrame, list[str]]:
    """A Delta list's rows (file, position, and the fields that it has), and its files in order."""
    source = table.source
    stored = spark.read.format("delta").option("versionAsOf", table.version).load(source.location)
    placed = stored.select(
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("within"),  # only its order within a block is used: that is the file's
        *[F.col(f"`{column}`").cast("string").alias(field) for field, column in _wanted(source).items()],
    )
    in_file = Window.partitionBy("file").orderBy("block", "within")
    rows = placed.withColumn("position", F.row_number().over(in_file).cast("bigint") - 1).drop("block", "within")
    return rows, sorted(row.file for row in placed.select("file").distinct().collect())


def _read_table(indexes: dict[str, int], source: Source, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: rows of a Delta list."""
    by_field = replace(source, columns={field: field for field in source.columns})
    for batch in batches:
        yield from _in_batches(
            {"file_index": indexes[row["file"]], "position": row["position"], "line": row["position"] + 1}
            | to_record(row, by_field)
            for row in batch.to_pylist()
        )


def _checked_files(yaml_path: str, source: Source) -> list[str]:
    try:
        paths = expand(source.location)
    except (OSError, ValueError, ImportError) as error:
        raise _config_error(
            yaml_path, "location", "a place that can be listed", f"{source.location}: {error}"
        ) from error
    if not paths:
        raise _config_error(yaml_path, "location", f"a {source.format} list", f"no file at {source.location}")
    for path in paths:
        try:
            found = columns_of(path, source.format)
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise _config_error(yaml_path, "format", f"{path} to be {source.format}", str(error)) from error
        _check_columns(yaml_path, source, found, path)
    return paths


def _checked_table(yaml_path: str, source: Source) -> _Table:
    from deltalake import DeltaTable  # here, because executors import this file and need not have it
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(source.location)
    except (DeltaError, OSError) as error:
        raise _config_error(yaml_path, "location", "a Delta table", f"none at {source.location}: {error}") from error
    _check_columns(yaml_path, source, [field.name for field in table.schema().fields], source.location)
    return _Table(source, table.version())


def _wanted(source: Source) -> dict[str, str]:
    """Field of a record -> column of the list."""
    return {"url": "url", **source.columns}


def _check_columns(yaml_path: str, source: Source, found: list[str], place: str) -> None:
    wanted = list(dict.fromkeys(_wanted(source).values()))
    missing = [column for column in wanted if column not in found]
    if missing:
        raise _config_error(
            yaml_path,
            "columns" if source.columns else "location",
            f"{place} to have the columns {', '.join(wanted)}",
            f"{', '.join(found) or 'none'} (missing: {', '.join(missing)})",
            f"Map `columns` ({', '.join(COLUMNS)}) to the columns that the list has.",
        )


def _config_error(yaml_path: str, key: str, expected: str, found: str, remedy: str = "") -> ConfigError:
    return ConfigError(yaml_path, line_of(yaml_path, key), expected, found, remedy)


def line_of(yaml_path: str, key: str) -> int | None:
    """The line of a key at the top level of a YAML file."""
    root = yaml.compose(Path(yaml_path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next((node.start_mark.line + 1 for node, _ in pairs if node.value == key), None)
