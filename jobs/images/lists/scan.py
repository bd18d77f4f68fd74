"""One pass over the bytes of all lists, block by block on the executors: digests, and where large files can be divided.

A Parquet file is divided between row groups; lines of UTF-8 wherever one ends; CSV and TSV only when no quote is in the
whole file, because within quotes a line's end need not be a row's. What is compressed is read by one task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from jobs.images.lists.columnar import parquet_rows
from jobs.images.lists.find import ListFile, Lists, ListTable, extra_columns
from jobs.images.lists.formats import Listed, text_rows
from jobs.images.lists.places import READ_ERRORS, Place
from jobs.images.lists.record import mapping_of
from licet.errors import DamagedError

BLOCK_BYTES = 64 << 20
"""Bytes of a block: what is hashed at once, and about what one task reads."""
_PART_ROWS = 250_000
"""Rows of Parquet that one task reads, where row groups are smaller than that."""
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """What one task reads of a file."""

    file: ListFile
    start: int = 0
    """First byte or, of Parquet, first row group."""
    end: int | None = None
    first_line: int = 1

    def rows(self) -> Iterator[Listed]:
        """Its rows, in order."""
        file, source = self.file, self.file.source
        if source.format == "parquet":
            groups = range(self.start, len(file.group_rows) if self.end is None else self.end)
            mapped = list(dict.fromkeys(mapping_of(source).values()))
            return parquet_rows(file.place, mapped, extra_columns(source, file.columns), groups, self.first_line)
        return self._lines()

    def _lines(self) -> Iterator[Listed]:
        file = self.file
        whole = self.start == 0 and self.end is None
        with file.place.content() if whole else file.place.stored() as content:
            yield from text_rows(
                content, file.source.format, file.text, file.columns, self.start, self.end, self.first_line
            )


@dataclass(frozen=True)
class Scan:
    """What the pass found."""

    parts: tuple[Part | ListTable, ...]
    """In list order."""
    digests: dict[str, list[str]]
    """Source id -> SHA-256 of each of its files (of large ones: of their blocks' hashes), or a Delta list's version."""


@dataclass(frozen=True)
class _Block:
    sha256: bytes
    newlines: int
    quotes: int
    ends_line: bool
    """Whether its last byte is a newline."""


def scan_lists(spark: SparkSession, lists: Lists, block_bytes: int = BLOCK_BYTES) -> Scan:
    """Read all lists once. Raises `DamagedError` for a file that cannot be read."""
    files = [part for part in lists.parts if isinstance(part, ListFile)]
    tasks = [
        (number, file.place, start, block_bytes if file.n_bytes else None)
        for number, file in enumerate(files)
        for start in range(0, max(1, file.n_bytes), block_bytes)
    ]
    places = spark.sparkContext.parallelize(tasks, max(1, len(tasks)))
    blocks: list[list[_Block]] = [[] for _ in files]
    for (number, place, *_), found in zip(
        tasks, places.map(lambda task: _read_block(*task[1:])).collect(), strict=True
    ):
        if isinstance(found, str):
            raise DamagedError(f"the list {place.name} cannot be read: {found}.")
        blocks[number].append(found)
    digests: dict[str, list[str]] = {part.source.id: [] for part in lists.parts}
    parts: list[Part | ListTable] = []
    numbers = iter(range(len(files)))
    for part in lists.parts:
        if isinstance(part, ListTable):
            digests[part.source.id].append(f"version {part.version}")
            parts.append(part)
        else:
            read = blocks[next(numbers)]
            digests[part.source.id].append(_digest(read))
            parts += _divided(part, read, block_bytes)
    return Scan(tuple(parts), digests)


def _divided(file: ListFile, blocks: Sequence[_Block], block_bytes: int) -> list[Part]:
    if file.source.format == "parquet":
        return _row_groups(file)
    quoted = file.source.format in ("csv", "tsv") and any(block.quotes for block in blocks)
    if len(blocks) == 1 or file.place.compression or file.source.format == "json" or quoted or not file.text.divisible:
        return [Part(file)]
    parts, before = [Part(file, 0, block_bytes)], 0
    for number, previous in enumerate(blocks[:-1], 1):
        before += previous.newlines
        last = number == len(blocks) - 1
        first_line = before + (1 if previous.ends_line else 2)
        parts.append(Part(file, number * block_bytes, None if last else (number + 1) * block_bytes, first_line))
    return parts


def _row_groups(file: ListFile) -> list[Part]:
    parts: list[Part] = []
    start, first, rows = 0, 1, 0
    for number, n in enumerate(file.group_rows):
        if rows and rows + n > _PART_ROWS:
            parts.append(Part(file, start, number, first))
            start, first, rows = number, first + rows, 0
        rows += n
    return [*parts, Part(file, start, None, first)]


def _digest(blocks: Sequence[_Block]) -> str:
    if len(blocks) == 1:
        return blocks[0].sha256.hex()
    return hashlib.sha256(b"".join(block.sha256 for block in blocks)).hexdigest()


def _read_block(place: Place, start: int, size: int | None) -> _Block | str:
    """On an executor: what one block holds, or why it cannot be read. A stream that cannot be divided has no size."""
    digest, newlines, quotes, last = hashlib.sha256(), 0, 0, b""
    try:
        with place.stored() as file:
            if start:
                file.seek(start)
            left = size
            while left != 0 and (data := file.read(_READ_BYTES if left is None else min(_READ_BYTES, left))):
                digest.update(data)
                newlines, quotes, last = newlines + data.count(b"\n"), quotes + data.count(b'"'), data[-1:]
                left = None if left is None else left - len(data)
    except READ_ERRORS as error:
        return f"{type(error).__name__}: {error}"
    return _Block(digest.digest(), newlines, quotes, last == b"\n")
