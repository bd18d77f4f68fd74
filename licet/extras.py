"""Further columns of a list: Arrow values -> JSON that a person can read -> the same Arrow values.

    dumps({"taken": …})                    the text of `SourceRecord.extra` and `Sample.extra`
    to_arrow(texts, schema)                back to a table; `read_schema` finds the schema in the `sources` table

What JSON has stays as it is. What it lacks is an object with one tag:

    {"$timestamp": "2026-11-21 16:20:00.000000001Z"}   UTC where the column has a time zone; also for no zone, without Z
    {"$date": "2026-11-21"}      {"$decimal": "1.10"}      {"$float": "nan"}  (or "inf", "-inf")
    {"$time": 7}                 {"$duration": 5}          integers, in the unit of the column's type
    {"$bytes": "<base64>"}       {"$map": [[key, value], …]}
    {"$object": {…}}             an object whose only key begins with "$"

Nested lists, structs and maps hold such values again. This module knows Arrow and JSON; it knows no lists.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

JSON_FIELD = {b"licet.type": b"json"}
"""Metadata of a field whose column had no type of its own: its values are given back as JSON text."""


def plain(array: pa.Array) -> list[Any]:
    """The values of an Arrow array as JSON has them. Raises `pa.ArrowException` for a type that it cannot carry."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if tag := _tag_of(kind):
        return _tagged(tag, _as_text(array, tag))
    if pa.types.is_floating(kind):
        return [_finite(value) for value in array.to_pylist()]
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        columns = [plain(child) for child in array.flatten()]
        there = array.is_valid().to_pylist()
        rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
        return [_escaped(row) if valid else None for row, valid in zip(rows, there, strict=True)]
    if pa.types.is_map(kind):
        pairs = pa.list_(pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)]))
        lists = plain(array.cast(pairs))
        return [None if rows is None else {"$map": [[r["key"], r["value"]] for r in rows]} for rows in lists]
    if _is_list(kind):
        lengths = array.value_lengths().to_pylist() if not pa.types.is_fixed_size_list(kind) else None
        lengths = lengths or [kind.list_size if valid else None for valid in array.is_valid().to_pylist()]
        items = iter(plain(array.flatten()))
        return [None if n is None else [next(items) for _ in range(n)] for n in lengths]
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        raise pa.ArrowNotImplementedError(f"columns of type {kind} are not carried along")
    return array.to_pylist()  # type: ignore[no-any-return]


def tagged(value: Any) -> Any:
    """A value that came from JSON, as `dumps` takes it: what only looks like a tag is marked as an object."""
    if isinstance(value, dict):
        return _escaped({key: tagged(item) for key, item in value.items()})
    if isinstance(value, list):
        return [tagged(item) for item in value]
    return _finite(value) if isinstance(value, float) else value


def dumps(values: Mapping[str, Any]) -> str:
    """JSON text of `{column: plain value}`, in the columns' order."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False) if values else "{}"


def to_arrow(texts: Iterable[str], schema: pa.Schema) -> pa.Table:
    """A table of the schema's columns from rows of JSON; a column that a row lacks is null there.

    Raises `pa.ArrowException` or `ValueError` when a value is not of its column's type.
    """
    rows = [json.loads(text) for text in texts]
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if (field.metadata or {}).get(b"licet.type") == b"json":
            values = [None if value is None else json.dumps(_untagged(value), ensure_ascii=False) for value in values]
        columns.append(_array(values, field.type))
    return pa.table(columns, schema=schema)


def write_schema(schema: pa.Schema) -> dict[str, Any]:
    """What the `sources` table says of the further columns: their types to read, and the schema for machines."""
    types = {f.name: "json" if f.metadata == JSON_FIELD else str(f.type) for f in schema}
    return {"extra_types": types, "extra_schema": base64.b64encode(schema.serialize().to_pybytes()).decode()}


def read_schema(record: str | Mapping[str, Any]) -> pa.Schema:
    """The schema of a source's further columns, from its `record` in the `sources` table."""
    said = json.loads(record) if isinstance(record, str) else record
    if not said.get("extra_schema"):
        return pa.schema([])
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(said["extra_schema"])))


def _tag_of(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "$timestamp"
    if pa.types.is_date(kind):
        return "$date"
    if pa.types.is_decimal(kind):
        return "$decimal"
    if pa.types.is_time(kind):
        return "$time"
    if pa.types.is_duration(kind):
        return "$duration"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "$bytes"
    return ""


def _as_text(array: pa.Array, tag: str) -> list[Any]:
    if tag == "$bytes":
        return [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()]
    if tag in ("$time", "$duration"):
        return array.view(_integer_of(array.type)).to_pylist()  # type: ignore[no-any-return]
    if tag == "$timestamp" and array.type.tz:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    return array.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The inverse of `plain`."""
    if pa.types.is_dictionary(kind):
        return _array(values, kind.value_type).dictionary_encode().cast(kind)
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(_array(values, kind.storage_type))
    if tag := _tag_of(kind):
        texts = [None if value is None else value[tag] for value in values]
        if tag == "$bytes":
            return pa.array([None if text is None else base64.b64decode(text) for text in texts], kind)
        if tag in ("$time", "$duration"):
            return pa.array(texts, _integer_of(kind)).view(kind)
        return pa.array(texts, pa.string()).cast(kind)
    if pa.types.is_floating(kind):
        return pa.array([float(v["$float"]) if isinstance(v, dict) else v for v in values], pa.float64()).cast(
            kind, safe=False
        )
    there = pa.array([value is None for value in values])
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        bare = [None if value is None else value.get("$object", value) for value in values]
        children = [_array([None if row is None else row[f.name] for row in bare], f.type) for f in fields]
        return pa.StructArray.from_arrays(children, fields=fields, mask=there)
    if pa.types.is_map(kind):
        lists = [None if value is None else value["$map"] for value in values]
        keys, items = ([pair[side] for rows in lists if rows for pair in rows] for side in (0, 1))
        return pa.MapArray.from_arrays(
            _offsets(lists), _array(keys, kind.key_type), _array(items, kind.item_type), type=kind
        )
    if _is_list(kind):
        below = _array([item for rows in values if rows for item in rows], kind.value_type)
        return pa.ListArray.from_arrays(_offsets(values), below).cast(kind)
    return pa.array(values, kind)


def _offsets(lists: list[Any]) -> pa.Array:
    """Where each list begins among all items; null for a list that is null."""
    begins: list[int | None] = []
    end = 0
    for items in lists:
        begins.append(None if items is None else end)
        end += len(items or ())
    return pa.array([*begins, end], pa.int32())


def _untagged(value: Any) -> Any:
    """The inverse of `tagged`; a float that JSON lacks becomes null."""
    if isinstance(value, dict):
        if len(value) == 1 and "$object" in value:
            return {key: _untagged(item) for key, item in value["$object"].items()}
        return None if len(value) == 1 and "$float" in value else {k: _untagged(item) for k, item in value.items()}
    return [_untagged(item) for item in value] if isinstance(value, list) else value


def _tagged(tag: str, values: list[Any]) -> list[Any]:
    return [None if value is None else {tag: value} for value in values]


def _finite(value: Any) -> Any:
    if value is None or math.isfinite(value):
        return value
    return {"$float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}


def _escaped(row: dict[str, Any]) -> dict[str, Any]:
    return {"$object": row} if len(row) == 1 and next(iter(row)).startswith("$") else row


def _integer_of(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if pa.types.is_time32(kind) else pa.int64()


_LISTS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS)
