"""Further columns: through JSON and back, value for value and type for type."""

from __future__ import annotations

import datetime
import decimal
import json

import pyarrow as pa
import pytest

from licet.extras import JSON_FIELD, dumps, plain, read_schema, tagged, to_arrow, write_schema

MAP = pa.map_(pa.string(), pa.timestamp("ns"))
COLUMNS: dict[str, tuple[pa.DataType, list[object]]] = {
    "text": (pa.string(), ["a\x00\u2028", "", None]),
    "small": (pa.int8(), [-128, 127, None]),
    "large": (pa.uint64(), [0, 2**64 - 1, None]),
    "ratio": (pa.float64(), [0.1, float("inf"), None]),
    "half": (pa.float32(), [float("-inf"), 1.5, None]),
    "yes": (pa.bool_(), [True, False, None]),
    "money": (pa.decimal128(38, 10), [decimal.Decimal("-1.10"), decimal.Decimal(10) ** 27, None]),
    "blob": (pa.binary(), [b"\x00\xff", b"", None]),
    "digest": (pa.binary(2), [b"ab", b"\x00\xff", None]),
    "nanoseconds": (pa.timestamp("ns"), [1, 1_700_000_000_123_456_789, None]),
    "seconds": (pa.timestamp("s", "Europe/Paris"), [1_698_541_200, 1_698_537_600, None]),  # 02:00 twice that night
    "day": (pa.date32(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None]),
    "clock": (pa.time64("ns"), [1, 86_399_999_999_999, None]),
    "lasted": (pa.duration("us"), [-5, 2**60, None]),
    "list": (pa.list_(pa.list_(pa.float32())), [[[1.5], None, []], [], None]),
    "pair": (pa.list_(pa.int32(), 2), [[1, 2], [3, 4], None]),
    "struct": (
        pa.struct([("$a", pa.list_(pa.timestamp("ms", "UTC")))]),
        [{"$a": [5, None]}, {"$a": None}, None],
    ),
    "map": (MAP, [[("x", 1), ("y", None)], [], None]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["x", "x", None]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was(name: str) -> None:
    kind, values = COLUMNS[name]
    array = pa.array(values, kind)
    texts = [dumps({name: value}) for value in plain(array)]
    schema = read_schema(json.dumps(write_schema(pa.schema([(name, kind)]))))
    back = to_arrow(texts, schema)
    assert back.schema.types == [kind]
    assert back.column(0).combine_chunks().equals(array)
    sliced = plain(array.slice(1))
    assert [dumps({name: value}) for value in sliced] == texts[1:]


def test_nan_comes_back_as_nan() -> None:
    [value] = to_arrow([dumps({"x": plain(pa.array([float("nan")]))[0]})], pa.schema([("x", pa.float64())]))["x"]
    assert value.as_py() != value.as_py()


def test_a_person_can_read_them() -> None:
    taken = plain(pa.array([0], pa.timestamp("s", "Europe/Paris")))
    assert (
        dumps({"taken": taken[0], "n": 3, "é": "è"}) == '{"taken":{"$timestamp":"1970-01-01 00:00:00Z"},"n":3,"é":"è"}'
    )
    assert write_schema(pa.schema([("x", pa.date32())]))["extra_types"] == {"x": "date32[day]"}


def test_json_that_looks_like_a_tag_stays_json() -> None:
    value = {"$bytes": {"$float": "inf"}, "more": [1e400, {"$map": 1}]}
    text = dumps({"x": tagged(value)})
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    schema = pa.schema([pa.field("x", pa.string(), metadata=JSON_FIELD), ("gone", pa.int8())])
    [back] = to_arrow([text], schema).to_pylist()
    assert json.loads(back["x"]) == {"$bytes": {"$float": "inf"}, "more": [None, {"$map": 1}]}
    assert back["gone"] is None


def test_a_type_that_cannot_be_carried_is_refused() -> None:
    with pytest.raises(pa.ArrowNotImplementedError, match="not carried along"):
        plain(pa.array([], pa.month_day_nano_interval()))
