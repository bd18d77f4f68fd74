"""Files in the form of robots.txt: which lines are meant for us (RFC 9309, 2.2.1).

The group whose product token is our name counts; several of them are one; only where there is none, the groups of `*`
count. Names are compared whole and without regard to case, so `lic` is not `licet` and `licet/2.0` is. Groups end where
a user-agent line follows a rule; other records do not end them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINES = re.compile(r"\r\n|\r|\n").split
_TOKEN = re.compile(r"[A-Za-z0-9_-]+").match

_AGENT = frozenset({"user-agent", "useragent", "user agent"})
_FIELDS = {
    "allow": "allow",
    **dict.fromkeys(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    "content-usage": "content-usage",
    "content-signal": "content-signal",
    **dict.fromkeys(("crawl-delay", "crawl delay"), "crawl-delay"),
}
_RULES = frozenset({"allow", "disallow", "content-usage"})


class Line(NamedTuple):
    """One line of our group."""

    number: int
    """From 1."""
    field: str
    """In small letters, misspellings put right."""
    value: str

    def __str__(self) -> str:
        return f"{self.field.title()}: {self.value} (line {self.number})"


def product_token(user_agent: str) -> str:
    """The name by which sites may address who sends this User-Agent: `licet` of `licet/1.0 (…)`."""
    found = _TOKEN(user_agent.strip())
    return found[0].lower() if found else ""


def our_lines(text: str, agent: str) -> list[Line]:
    """The lines of the group that is ours, in their order."""
    ours: list[Line] = []
    everyones: list[Line] = []
    named = mine = everyone = False
    open_group = False
    for number, raw in enumerate(_LINES(text.removeprefix("\ufeff")), 1):
        field, value = _field(raw)
        if field in _AGENT:
            if not open_group:
                mine = everyone = False
                open_group = True
            mine = mine or product_token(value) == agent
            everyone = everyone or value.startswith("*")
            named = named or mine
        elif (known := _FIELDS.get(field)) is not None:
            open_group = open_group and known not in _RULES
            line = Line(number, known, value)
            if mine:
                ours.append(line)
            if everyone:
                everyones.append(line)
    return ours if named else everyones


def _field(raw: str) -> tuple[str, str]:
    """Name, in small letters, and value of a line; its comment is left out."""
    line = raw.partition("#")[0].strip()
    name, colon, value = line.partition(":")
    if not colon:
        parts = line.split()
        name, value = parts if len(parts) == 2 else (line, "")
    return name.strip().lower(), value.strip()
