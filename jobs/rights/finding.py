"""What the protocols said of one URL, and what follows from it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Said = dict[str, dict[str, Any]]
"""Protocol -> what was found, with the UTC time `at` which it was asked. JSON as it is."""

_LONGEST = 200


class Word(NamedTuple):
    """What one protocol said."""

    said: dict[str, Any]
    reason: str = ""
    """Key of `REASONS`; empty when it requests nothing."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether what was asked leaves us free to go on, and everything that it said."""

    allowed: bool = True
    reason: str = ""
    """Key of `REASONS`; empty when allowed."""
    detail: str = ""
    said: Said = field(default_factory=dict)
    transient: bool = False
    """Whether the answer may be another one another time."""
    requests: int = 0
    """Requests that this call sent; what other calls had asked already counts nothing."""

    @property
    def said_without_times(self) -> Said:
        """As `timeless(said)`: what goes into a shard."""
        return timeless(self.said)


def timeless(said: Said) -> Said:
    """The same without the times of asking: shards hold no times, so that any run writes the same bytes."""
    return {key: _without_at(value) for key, value in said.items()}


def _without_at(value: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_at(v) if isinstance(v, dict) else v for k, v in value.items() if k != "at"}


def unite(*parts: Said) -> Said:
    """What was said before the request and after the answer, as one. TDMRep and AIPREF may have spoken in both."""
    united: Said = {}
    for said in parts:
        for protocol, found in said.items():
            united[protocol] = united[protocol] | found if protocol in united else found
    return united


def now() -> str:
    """The time as ISO 8601, UTC, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def short(text: str) -> str:
    """One printable line of at most 200 characters: what strangers wrote goes into our tables."""
    line = "".join(c if c.isprintable() else " " for c in text[: 2 * _LONGEST])
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
