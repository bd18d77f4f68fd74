"""The rows of lists that are text: txt, CSV, TSV, JSON lines, JSON. What is not a row is a `Malformed` with its line.

Quoting is RFC 4180's. JSON is RFC 8259's: no NaN, no name twice in one object. This file knows formats, not places.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from jobs.images.lists.lines import LONGEST_LINE, Text, characters_of, lines_of
from licet.sources import ListFormat

_LONGEST_FIELD = 1 << 20
"""Characters of a CSV field; a longer one is most likely a quote that nobody closed."""


class Row(NamedTuple):
    """One row of a list."""

    line: int
    """From 1: the line on which it begins, or in Parquet, Delta and JSON its number."""
    values: Mapping[str, Any]
    """By column; of columnar lists only those that a record field comes from."""
    extra: Mapping[str, Any] | None = None
    """Further columns as `licet.extras.plain` gives them; None where `values` has them."""


class Malformed(NamedTuple):
    """A line that is not a row."""

    line: int
    detail: str


Listed = Row | Malformed


def text_rows(
    file: IO[bytes],
    format: ListFormat,
    text: Text,
    header: Sequence[str] = (),
    start: int = 0,
    end: int | None = None,
    first_line: int = 1,
) -> Iterator[Listed]:
    """The rows that begin in a range of a list's bytes; `header` names the columns of CSV and TSV."""
    if format == "json":
        yield from _json_rows(characters_of(file, text))
        return
    lines = lines_of(file, text, start, end)
    if format == "csv" or format == "tsv":
        yield from _csv_rows(lines, "\t" if format == "tsv" else ",", header, first_line, skip_header=start == 0)
    else:
        read = _json_line if format == "jsonl" else _url_line
        for line, content in enumerate(lines, first_line):
            if content is None:
                yield Malformed(line, _TOO_LONG)
            elif content.strip():
                yield read(line, content)


def header_of(file: IO[bytes], format: ListFormat, text: Text) -> list[str]:
    """The columns that the first line of CSV or TSV names. Raises ValueError when it is none."""
    try:
        return next(
            csv.reader(_Lines(lines_of(file, text)), delimiter="\t" if format == "tsv" else ",", strict=True), []
        )
    except csv.Error as error:
        raise ValueError(f"its first line names no columns: {error}") from error


_TOO_LONG = f"longer than {LONGEST_LINE} bytes"


def _url_line(line: int, content: str) -> Listed:
    return Row(line, {"url": content.strip()})


def _json_line(line: int, content: str) -> Listed:
    try:
        return _object(line, _DECODER.decode(content))
    except (ValueError, RecursionError) as error:
        return Malformed(line, f"not JSON: {error}")


def _object(line: int, value: Any) -> Listed:
    return Row(line, value) if isinstance(value, dict) else Malformed(line, f"not an object: {str(value)[:100]}")


def _json_rows(pieces: Iterator[str]) -> Iterator[Listed]:
    """The objects of one JSON array, one at a time. Raises ValueError where the array itself is broken."""
    buffer = _Buffer(pieces)
    if buffer.peek() != "[":
        raise ValueError(f"expected a JSON array of objects, found {buffer.peek() or 'the end'!r}")
    number, separator = 0, "["
    while separator != "]":
        buffer.at += 1
        if buffer.peek() == "]" and separator == "[":
            break
        number += 1
        yield _object(number, buffer.value(number))
        separator = buffer.peek()
        if separator not in ("]", ","):
            raise ValueError(f"expected ',' or ']' after object {number}, found {separator or 'the end'!r}")
    buffer.at += 1
    if buffer.peek():
        raise ValueError(f"expected nothing after the array, found {buffer.peek()!r}")


class _Buffer:
    """Text that is read as far as a decoder needs it."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self.text, self.at = "", 0

    def peek(self) -> str:
        """The next character that is no white space, where `at` is then; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def value(self, number: int) -> Any:
        """The JSON value that begins after white space. Raises ValueError when there is none."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except RecursionError as error:
                raise ValueError(f"object {number} is nested too deeply") from error
            except ValueError as error:
                if len(self.text) - self.at > LONGEST_LINE or not self._more():
                    raise ValueError(f"object {number} is not JSON: {error}") from error
                continue
            if end < len(self.text) or not self._more():  # a number at the end may go on
                self.at = end
                return value

    def _more(self) -> bool:
        piece = next(self._pieces, "")
        self.text, self.at = self.text[self.at :] + piece, 0
        return bool(piece)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return found


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unlike)


def _csv_rows(
    lines: Iterator[str | None], delimiter: str, header: Sequence[str], first_line: int, skip_header: bool
) -> Iterator[Listed]:
    """A record that cannot be read costs its first line; reading goes on with the next, for a quote that nobody closed
    would otherwise take all rows behind it along."""
    csv.field_size_limit(_LONGEST_FIELD)
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    line = first_line
    while True:
        source.taken.clear()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not skip_header:
                yield Malformed(line, str(error))
            source.put_back_all_but_one()
            line += 1
        else:
            if skip_header or not values:
                pass
            elif len(values) != len(header):
                yield Malformed(line, f"{len(values)} values under {len(header)} columns")
            else:
                yield Row(line, dict(zip(header, values, strict=True)))
            line += len(source.taken)
        skip_header = False


class _Lines:
    """Lines for `csv.reader`, which remembers those of the record that it reads."""

    def __init__(self, lines: Iterator[str | None]) -> None:
        self._lines = lines
        self._back: deque[str | None] = deque()
        self.taken: list[str | None] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(line)
        if line is None:
            raise csv.Error(_TOO_LONG)
        if "\x00" in line:  # Python 3.10 refuses it, 3.11 does not
            raise csv.Error("holds a NUL byte")
        return line + "\n"

    def put_back_all_but_one(self) -> None:
        """Give the lines of a record again, its first left out."""
        self._back.extendleft(reversed(self.taken[1:]))
