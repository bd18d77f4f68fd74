"""Parquet: one row per sample with `records.SAMPLE_SCHEMA`, in row groups that one random access can afford to read.

Pages carry checksums and are verified. The index's offset is the row's number, its checksum is that of the row's
canonical encoding (`index.encode`), so that a reader proves the row it has decoded whatever was damaged on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from licet.errors import ShardDamagedError
from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import ShardIndex, check_record, crc32c, encode, record_name
from licet.shards.shard import Place, close_durably, create

RECORDS_COVER_STRUCTURE = True

ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 8 << 20
"""A row group ends with the row that reaches either."""

_SMALL_COLUMNS = [name for name in SAMPLE_SCHEMA.names if name != "payload"]


class Writer:
    """See `licet.shards.shard.FormatWriter`."""

    def __init__(self, path: str) -> None:
        self._file = create(path)
        self._parquet = pq.ParquetWriter(
            self._file,
            SAMPLE_SCHEMA,
            compression="zstd",
            use_dictionary=_SMALL_COLUMNS,
            write_statistics=_SMALL_COLUMNS,
            write_page_checksum=True,
        )
        self._pending: list[Sample] = []
        self._n_pending_bytes = 0
        self._n_rows = 0

    def append(self, sample: Sample, encoded: bytes) -> Place:
        place = Place(self._n_rows, len(encoded), crc32c(encoded))
        self._n_rows += 1
        self._pending.append(sample)
        self._n_pending_bytes += len(encoded)
        if len(self._pending) >= ROWS_PER_GROUP or self._n_pending_bytes >= BYTES_PER_GROUP:
            self._flush()
        return place

    def _flush(self) -> None:
        columns = {name: [getattr(sample, name) for sample in self._pending] for name in SAMPLE_SCHEMA.names}
        self._parquet.write_table(pa.table(columns, schema=SAMPLE_SCHEMA), row_group_size=ROWS_PER_GROUP)
        self._pending.clear()
        self._n_pending_bytes = 0

    def finish(self) -> None:
        if self._pending:
            self._flush()
        self._parquet.close()
        close_durably(self._file)

    def abandon(self) -> None:
        self._parquet.is_open = False  # or its destructor would write a footer, into a file that is closed
        self._file.close()


class Reader:
    """See `licet.shards.ShardReader`. Keeps the row group that was read last."""

    def __init__(self, path: str, index: ShardIndex) -> None:
        self._path, self._index = path, index
        self._columns: list[pa.Array] = []
        self._group = -1
        try:
            self._parquet = pq.ParquetFile(path, page_checksum_verification=True)
            footer = self._parquet.metadata
            groups = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ShardDamagedError(path, "footer", _first_line(error)) from error
        self._ends = np.cumsum(groups, dtype=np.int64)
        """Row number after the last row of each row group."""
        if sum(groups) != len(index) or not self._parquet.schema_arrow.equals(SAMPLE_SCHEMA):
            self.close()
            raise ShardDamagedError(path, "footer", f"it tells of other rows than the {len(index)} of the index")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: int) -> Sample:
        if self._parquet.closed:
            raise RuntimeError(f"the reader of {self._path} is closed")
        row, _, _ = self._index.place(position)
        try:
            sample = self._read(row)
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            raise ShardDamagedError(self._path, record_name(self._index, position), _first_line(error)) from error
        check_record(self._path, position, self._index, encode(sample))
        return sample

    def _read(self, row: int) -> Sample:
        group = int(np.searchsorted(self._ends, row, side="right"))
        if group != self._group:
            self._columns, self._group = [], -1  # nothing half read stays, and two groups are never in memory
            table = self._parquet.read_row_group(group, use_threads=False)
            self._columns = [table.column(name).combine_chunks() for name in SAMPLE_SCHEMA.names]
            self._group = group
        start = int(self._ends[group - 1]) if group else 0
        values: list[Any] = [column[row - start].as_py() for column in self._columns]
        return Sample(*values)

    def close(self) -> None:
        self._columns, self._group = [], -1
        self._parquet.close(force=True)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
