"""X-Robots-Tag headers: directives for all, and for single agents.

    X-Robots-Tag: noai, noimageai
    X-Robots-Tag: otherbot: noindex, nofollow
    X-Robots-Tag: unavailable_after: 25 Jun 2010 15:00:00 PST

An agent's name holds for the rest of its header line, or until the next name. No registry of directives exists: those
with a value are known by name, any other word before a colon is an agent. Case does not count.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime

from jobs.rights.finding import Word, short

REFUSING = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none", "noml"})
"""Directives that we take for a refusal, whatever the purpose."""

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_PREFIX = re.compile(r"([^\s:,]+)\s*:\s*(.*)", re.DOTALL).match
_WEEKDAY = re.compile(r"[A-Za-z]{3,9}").fullmatch
_MOST = 50


def header(values: Iterable[str], agent: str, at: datetime.datetime) -> Word:
    """What an answer's X-Robots-Tag lines tell this agent. `at` decides on `unavailable_after`."""
    ours = [directive for value in values for directive in directives(value, agent)][:_MOST]
    if not ours:
        return Word({})
    said = {"header": short(", ".join(f"{name}: {value}" if value else name for name, value in ours))}
    for name, value in ours:
        if name in REFUSING:
            return Word(said, "x-robots-tag", f"X-Robots-Tag: {name}")
        if name == "unavailable_after" and _passed(value, at):
            return Word(said, "x-robots-tag", f"X-Robots-Tag: {name}: {short(value)}")
    return Word(said)


def directives(value: str, agent: str) -> Iterator[tuple[str, str]]:
    """(name in small letters, value) of what one header line says to everyone or to this agent."""
    addressed = ""
    for part in _parts(value):
        found = _PREFIX(part)
        while found and found[1].lower() not in _VALUED:
            addressed, part = found[1].lower(), found[2].strip()
            found = _PREFIX(part)
        if part and addressed in ("", "*", agent):
            yield (found[1].lower(), found[2].strip()) if found else (part.lower(), "")


def _parts(value: str) -> Iterator[str]:
    """Between the commas, except the one after the weekday of a date."""
    waiting = ""
    for raw in value.split(","):
        part = waiting + raw.strip()
        last = part.rpartition(":")[2].strip()
        if "unavailable_after" in part.lower() and _WEEKDAY(last):
            waiting = part + ", "
            continue
        waiting = ""
        yield part
    if waiting:
        yield waiting.removesuffix(", ")


def _passed(date: str, at: datetime.datetime) -> bool:
    """Whether this date (RFC 822, RFC 850 or ISO 8601) is over. What is no date is not."""
    try:
        limit = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            limit = datetime.datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", date))
        except ValueError:
            return False
    if limit.tzinfo is None:
        limit = limit.replace(tzinfo=datetime.timezone.utc)
    return limit < at
