"""The rows of one list file, in order, whatever its format: `(line, row)`, or `(line, Unreadable)`.

A line that is not a row is data with a reason. A file that lacks a mapped column is a mistake in a source's YAML and is
found by `columns_of`, before anything runs. This file knows file formats; it does not know Spark.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from licet.sources import ListFormat

_LINES_LOOKED_AT = 100
"""How many JSON rows tell which columns a list has: a row may leave out what it does not know."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is not a row."""

    reason: str
    """A key of `jobs.images.records.REASONS`."""
    detail: str


def expand(location: str) -> list[str]:
    """The files that an fsspec URL, path or glob names, sorted. Raises OSError when the place cannot be listed."""
    fs, path = fsspec.core.url_to_fs(location)
    found = sorted(fs.glob(path)) if any(c in path for c in "*?[") else [path] if fs.exists(path) else []
    return [fs.unstrip_protocol(name) if "://" in location else name for name in found]


def columns_of(path: str, format: ListFormat) -> list[str]:
    """The columns that a list file shows before its rows are read. Raises ValueError when it is not of its format."""
    if format == "parquet":
        with fsspec.open(path, "rb") as file:
            return list(pq.read_schema(file).names)
    if format == "txt":
        return ["url"]
    if format in ("csv", "tsv"):
        with _open_text(path) as text:
            return next(_csv_reader(text, format), [])
    names: dict[str, None] = {}
    for (_, row), _ in zip(rows_of(path, format), range(_LINES_LOOKED_AT), strict=False):
        if not isinstance(row, Unreadable):
            names.update(dict.fromkeys(row))
    return list(names)


def rows_of(path: str, format: ListFormat) -> Iterator[tuple[int, Row | Unreadable]]:
    """Every row of a list file with its line number from 1 (for parquet and json: its row number)."""
    if format == "parquet":
        yield from _parquet_rows(path)
        return
    with _open_text(path) as text:
        if format == "json":
            yield from _json_rows(text)
        elif format == "jsonl":
            yield from ((line, _json_row(content)) for line, content in enumerate(text, 1) if content.strip())
        elif format == "txt":
            yield from (
                (line, {"url": _text(content.strip())}) for line, content in enumerate(text, 1) if content.strip()
            )
        else:
            yield from _csv_rows(text, format)


def digest_of(path: str) -> str:
    """SHA-256 of a list file, in hexadecimal."""
    digest = hashlib.sha256()
    with fsspec.open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_text(value: str) -> bool:
    """Whether the text was UTF-8: `surrogateescape` leaves half characters where it was not."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _open_text(path: str) -> Any:
    """Bytes that are not UTF-8 survive as half characters, so that their row can be refused and the others kept."""
    return fsspec.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="", compression="infer")


def _csv_reader(text: Any, format: ListFormat) -> Any:
    return csv.reader(text, delimiter="\t" if format == "tsv" else ",", strict=True)


def _csv_rows(text: Any, format: ListFormat) -> Iterator[tuple[int, Row | Unreadable]]:
    reader = _csv_reader(text, format)
    header: list[str] = next(reader, [])
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, Unreadable("row-malformed", str(error))
            continue
        if not values:
            continue
        if len(values) != len(header):
            yield line, Unreadable("row-malformed", f"{len(values)} values under {len(header)} columns")
        else:
            yield line, {name: _text(value) for name, value in zip(header, values, strict=True)}


def _json_rows(text: Any) -> Iterator[tuple[int, Row | Unreadable]]:
    """One JSON array of objects. It is held in memory: JSON lines are for long lists."""
    rows = json.load(text)
    if not isinstance(rows, list):
        raise ValueError(f"expected a JSON array of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield number, row if isinstance(row, dict) else Unreadable("row-malformed", f"not an object: {str(row)[:100]}")


def _json_row(content: str) -> Row | Unreadable:
    try:
        row = json.loads(content)
    except ValueError as error:
        return Unreadable("row-malformed", f"not JSON: {error}")
    return row if isinstance(row, dict) else Unreadable("row-malformed", f"not an object: {content.strip()[:100]}")


def _parquet_rows(path: str) -> Iterator[tuple[int, Row | Unreadable]]:
    number = 0
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(10_000):
            for row in _scalars(batch).to_pylist():
                number += 1
                yield number, row


def _scalars(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without nested columns and blobs: no field of a record comes from one."""
    kept = [f.name for f in batch.schema if not pa.types.is_nested(f.type) and not pa.types.is_large_binary(f.type)]
    return batch.select(kept)


def _text(value: str) -> str:
    return value.replace("\x00", "")
