"""Lines of text from bytes: UTF-8, UTF-16 or UTF-32 by the byte order mark, whole files or ranges of bytes.

A range holds the lines that begin in it, so that ranges that touch hold each line once. Bytes that are no text survive
as half characters, so that their row can be refused and the others kept. This file knows lines, not what they hold.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LONGEST_LINE = 16 << 20
"""Bytes of a line; a longer one is not a row."""
_CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
codecs.register_error("licet-no-text", lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Text:
    """How a file is text."""

    encoding: str = "utf-8"
    newline: bytes = b"\n"
    """What ends a line; a carriage return alone in files of old Macs."""

    @property
    def divisible(self) -> bool:
        """Whether a reader may begin in the middle."""
        return self.encoding == "utf-8" and self.newline == b"\n"


UTF8 = Text()
"""What most lists are."""


def sniff(file: IO[bytes]) -> Text:
    """How a file is text, from its first bytes."""
    head = file.read(1 << 16)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    newline = b"\r" if encoding == "utf-8" and b"\r" in head[:-1] and b"\n" not in head else b"\n"
    return Text(encoding, newline)


def lines_of(file: IO[bytes], text: Text, start: int = 0, end: int | None = None) -> Iterator[str | None]:
    """The lines that begin in [start, end), without their newlines; None for one longer than `LONGEST_LINE`."""
    source = file if text.encoding == "utf-8" else _InUtf8(file, text.encoding)
    for number, line in enumerate(_byte_lines(source, text.newline, start, end)):
        if line is None:
            yield None
            continue
        if number == 0 and start == 0:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield line.decode("utf-8", "surrogateescape")


def characters_of(file: IO[bytes], text: Text) -> Iterator[str]:
    """The text in pieces, without its byte order mark."""
    errors = "surrogateescape" if text.encoding == "utf-8" else "licet-no-text"
    decoder = codecs.getincrementaldecoder(text.encoding.replace("utf-8", "utf-8-sig"))(errors)
    while data := file.read(_CHUNK):
        if piece := decoder.decode(data):
            yield piece
    if piece := decoder.decode(b"", final=True):
        yield piece


def is_text(value: str) -> bool:
    """Whether a value was text in its encoding (see the head of this file)."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _byte_lines(file: IO[bytes] | _InUtf8, newline: bytes, start: int, end: int | None) -> Iterator[bytes | None]:
    begins = start  # of the line that `rest` holds the beginning of
    rest, left_out = b"", 0  # bytes of a line that was too long to keep
    mine = True
    if start:
        assert not isinstance(file, _InUtf8)
        file.seek(start - 1)  # the line that the byte before ends, or runs over, is the previous range's
        begins, mine = start - 1, False
    while chunk := file.read(_CHUNK):
        *whole, rest = (rest + chunk).split(newline)
        for line in whole:
            if mine:
                if end is not None and begins >= end:
                    return
                yield None if left_out else line
            begins += left_out + len(line) + 1
            left_out, mine = 0, True
        if len(rest) > LONGEST_LINE:
            left_out, rest = left_out + len(rest), b""
    if (rest or left_out) and mine and (end is None or begins < end):
        yield None if left_out else rest


class _InUtf8:
    """A stream in another encoding, read as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("licet-no-text")

    def read(self, size: int) -> bytes:
        """Some bytes, or none at the end."""
        while True:
            data = self._file.read(size)
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode("utf-8", "surrogateescape")
