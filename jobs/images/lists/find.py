"""The lists of sources, found and checked against their YAML, not read.

A mapped column that a list lacks, or a file that is not of its format, is a `ConfigError` with the YAML's line. This
file runs on the driver and holds one object per file, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs.images.lists.formats import Row, header_of, text_rows
from jobs.images.lists.lines import UTF8, Text, sniff
from jobs.images.lists.places import READ_ERRORS, Place, expand
from jobs.images.lists.record import mapping_of
from licet.errors import ConfigError
from licet.extras import JSON_FIELD, plain
from licet.sources import ALL_COLUMNS, COLUMNS, Source

_ROWS_LOOKED_AT = 100
"""How many JSON rows tell which columns a list has: a row may leave out what it does not know."""
_THREADS = 16


@dataclass(frozen=True)
class ListFile:
    """A list, or a part of one, that is a file."""

    place: Place
    source: Source
    columns: tuple[str, ...]
    n_bytes: int
    """As stored; 0 where a reader cannot jump in it."""
    text: Text = UTF8
    """Of formats that are text."""
    group_rows: tuple[int, ...] = ()
    """Rows of each row group, of Parquet."""


@dataclass(frozen=True)
class ListTable:
    """A Delta list, at the version that was found."""

    source: Source
    version: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Lists:
    """The lists of all sources."""

    parts: tuple[ListFile | ListTable, ...]
    """In the order of the sources and, of one source, of its files' names."""
    extra: Mapping[str, pa.Schema]
    """Source id -> names and types of the further columns that its rows carry along."""


def find_lists(sources: Mapping[str, Source]) -> Lists:
    """Find the lists of `{yaml path: source}`.

    Raises `ConfigError` for a location without files, a file of another format, and a column that a list lacks.
    """
    parts: list[ListFile | ListTable] = []
    extra: dict[str, pa.Schema] = {}
    for yaml_path, source in sources.items():
        found: Sequence[tuple[ListFile | ListTable, pa.Schema]]
        found = [_table(yaml_path, source)] if source.format == "delta" else _files(yaml_path, source)
        for part, schema in found:
            place = part.place.name if isinstance(part, ListFile) else source.location
            _check_columns(yaml_path, source, schema, place)
        parts += [part for part, _ in found]
        extra[source.id] = _extra_schema(yaml_path, source, [schema for _, schema in found])
    return Lists(tuple(parts), extra)


def extra_columns(source: Source, columns: tuple[str, ...]) -> list[str]:
    """Those of a list's columns that the rows carry along."""
    if source.extra_columns == [ALL_COLUMNS]:
        mapped = set(mapping_of(source).values())
        return [name for name in columns if name not in mapped]
    return list(source.extra_columns)


def _files(yaml_path: str, source: Source) -> list[tuple[ListFile, pa.Schema]]:
    try:
        places = expand(source.location, source.format)
    except (OSError, ValueError, ImportError) as error:
        raise _wrong(yaml_path, "location", "a place that can be listed", f"{source.location}: {error}") from error
    if not places:
        raise _wrong(yaml_path, "location", f"a {source.format} list", f"no file at {source.location}")

    def look(place: Place) -> tuple[ListFile, pa.Schema]:
        try:
            return _look(place, source)
        except READ_ERRORS as error:
            raise _wrong(yaml_path, "format", f"{place.name} to be {source.format}", str(error)) from error

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(look, places))


def _look(place: Place, source: Source) -> tuple[ListFile, pa.Schema]:
    """A file, and the columns that it shows before its rows are read."""
    if source.format == "parquet":
        with place.random_access() as file:
            parquet = pq.ParquetFile(file)
            schema = parquet.schema_arrow
            groups = tuple(parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups))
        return ListFile(place, source, tuple(schema.names), place.n_bytes(), group_rows=groups), schema
    with place.content() as file:
        text = sniff(file)
    with place.content() as file:
        if source.format in ("csv", "tsv"):
            schema = pa.schema([(name, pa.string()) for name in header_of(file, source.format, text)])
        elif source.format == "txt":
            schema = pa.schema([("url", pa.string())])
        else:
            names: dict[str, None] = {}
            for row in islice(text_rows(file, source.format, text), _ROWS_LOOKED_AT):
                names.update(dict.fromkeys(row.values if isinstance(row, Row) else ()))
            schema = pa.schema([pa.field(name, pa.string(), metadata=JSON_FIELD) for name in names])
    return ListFile(place, source, tuple(schema.names), place.n_bytes(), text), schema


def _table(yaml_path: str, source: Source) -> tuple[ListTable, pa.Schema]:
    from deltalake import DeltaTable  # here, because executors import this file and need not have it
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(source.location)
    except (DeltaError, OSError) as error:
        raise _wrong(yaml_path, "location", "a Delta table", f"none at {source.location}: {error}") from error
    schema = pa.schema(table.schema().to_arrow())
    return ListTable(source, table.version(), tuple(schema.names)), schema


def _extra_schema(yaml_path: str, source: Source, schemas: list[pa.Schema]) -> pa.Schema:
    """The further columns' types: of all files one. Raises `ConfigError` for types that differ or cannot be carried."""
    chosen = [
        pa.schema([s.field(name) for name in extra_columns(source, tuple(s.names)) if name in s.names]) for s in schemas
    ]
    try:
        schema = pa.unify_schemas(chosen, promote_options="permissive")
        for field in schema:
            plain(pa.array([], field.type))
    except pa.ArrowException as error:
        remedy = "Name the columns that are wanted in `extra_columns`, of one type in all files."
        raise _wrong(yaml_path, "extra_columns", "columns that can be carried along", str(error), remedy) from error
    return pa.schema([field if field.metadata == JSON_FIELD else field.remove_metadata() for field in schema])


def _check_columns(yaml_path: str, source: Source, schema: pa.Schema, place: str) -> None:
    found: list[str] = schema.names
    wanted = list(dict.fromkeys((*mapping_of(source).values(), *extra_columns(source, tuple(found)))))
    twice = [column for column in wanted if found.count(column) > 1]
    missing = [column for column in wanted if column not in found]
    if source.format in ("json", "jsonl"):  # rows may leave out a further column; those looked at may be among them
        missing = [column for column in missing if column in mapping_of(source).values()]
    if twice:
        raise _wrong(yaml_path, "columns", f"{place} to have each column once", f"{', '.join(twice)} twice")
    if missing:
        key = "extra_columns" if set(missing) <= set(source.extra_columns) else "columns"
        raise _wrong(
            yaml_path,
            key,
            f"{place} to have the columns {', '.join(wanted)}",
            f"{', '.join(found) or 'none'} (missing: {', '.join(missing)})",
            f"Map `columns` ({', '.join(COLUMNS)}) to the columns that the list has.",
        )


def _wrong(yaml_path: str, key: str, expected: str, found: str, remedy: str = "") -> ConfigError:
    return ConfigError(yaml_path, line_of(yaml_path, key) or line_of(yaml_path, "location"), expected, found, remedy)


def line_of(yaml_path: str, key: str) -> int | None:
    """The line of a key at the top level of a YAML file."""
    root = yaml.compose(Path(yaml_path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next((node.start_mark.line + 1 for node, _ in pairs if node.value == key), None)
