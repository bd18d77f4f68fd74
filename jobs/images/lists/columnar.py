"""The rows of lists that know the types of their columns: Parquet, and what Spark hands over of a Delta table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.images.lists.formats import Row
from jobs.images.lists.places import Place
from licet import extras

_ROWS_PER_BATCH = 5_000


def parquet_rows(
    place: Place, mapped: Sequence[str], extra: Sequence[str], groups: Sequence[int], first_row: int
) -> Iterator[Row]:
    """The rows of some row groups, numbered from `first_row`."""
    with place.random_access() as file:
        parquet = pq.ParquetFile(file)
        there = set(parquet.schema_arrow.names)
        columns = [name for name in dict.fromkeys((*mapped, *extra)) if name in there]
        for batch in parquet.iter_batches(_ROWS_PER_BATCH, row_groups=list(groups), columns=columns):
            numbers = range(first_row, first_row + len(batch))
            first_row += len(batch)
            yield from rows_of(batch, numbers, mapped, [name for name in extra if name in there])


def rows_of(batch: pa.RecordBatch, lines: Sequence[int], mapped: Sequence[str], extra: Sequence[str]) -> Iterator[Row]:
    """The rows of a batch: the mapped columns as Python has them, the further ones as `licet.extras` has them."""
    values = [_values(batch.column(name)) for name in mapped]
    further = [extras.plain(batch.column(name)) for name in extra]
    for at, line in enumerate(lines):
        yield Row(
            line,
            {name: column[at] for name, column in zip(mapped, values, strict=True)},
            {name: column[at] for name, column in zip(extra, further, strict=True)},
        )


def _values(array: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_temporal(array.type) or pa.types.is_decimal(array.type):
        return array.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        try:
            return array.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:  # a Parquet writer need not have checked
            array = array.cast(pa.large_binary())
    return array.to_pylist()  # type: ignore[no-any-return]
