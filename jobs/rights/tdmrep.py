"""TDM Reservation Protocol (W3C Community Group report, 10 May 2024): rights to text and data mining, reserved or not.

`tdm-reservation` is 1 (reserved) or 0; any other value is an error and counts as unset. It stands in a header, in
/.well-known/tdmrep.json with path patterns, of which the first in sequence that covers the path counts, and, in what
follows the report, as `tdm:reservation` in XMP. No access to the file means that the site does not take part.
A header overrules the file by the report; here a file that reserves is believed before anything is requested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from jobs.rights.finding import Word, short
from jobs.rights.patterns import Pattern, Target

PATH = "/.well-known/tdmrep.json"
MAX_BYTES = 4 << 20
"""Of a file that is parsed: half a list of JSON says nothing at all."""


class Rule(NamedTuple):
    """One entry of the file."""

    number: int
    """From 1."""
    pattern: Pattern
    reserved: bool
    policy: str


class TdmRep:
    """One tdmrep.json. Never changes: threads share it."""

    __slots__ = ("rules", "weight")

    def __init__(self, text: str) -> None:
        try:
            entries = json.loads(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            entries = []
        if isinstance(entries, dict):  # one rule whose brackets were forgotten
            entries = [entries]
        numbered = enumerate(entries if isinstance(entries, list) else [], 1)
        self.rules = tuple(rule for number, entry in numbered if (rule := _rule(number, entry)) is not None)
        self.weight = sum(400 + len(rule.pattern.text) + len(rule.policy) for rule in self.rules)
        """Bytes of memory, roughly."""

    def rule(self, target: Target) -> Rule | None:
        """The first rule that covers the URL."""
        return next((rule for rule in self.rules if rule.pattern.matches(target)), None)


def _rule(number: int, entry: Any) -> Rule | None:
    """None for what lacks a location or a valid reservation."""
    if not isinstance(entry, dict) or not isinstance(location := entry.get("location"), str) or not location:
        return None
    reserved = reservation(entry.get("tdm-reservation"))
    if reserved is None:
        return None
    if location.lower().startswith(("http://", "https://")):
        location = "/" + location.partition("://")[2].partition("/")[2]
    if not location.startswith(("/", "*")):
        location = "/" + location
    location = " ".join(location.encode("utf-8", "replace").decode("utf-8").split())
    policy = entry.get("tdm-policy")
    return Rule(number, Pattern(location), reserved, short(policy) if isinstance(policy, str) else "")


def reservation(value: object) -> bool | None:
    """Whether rights are reserved; None for what is no valid value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
    return {1: True, 0: False, "1": True, "0": False}.get(value) if isinstance(value, (int, str)) else None


def header(reservations: Sequence[str], policies: Sequence[str]) -> Word:
    """What an answer's tdm-reservation and tdm-policy headers say."""
    if not reservations:
        return Word({})
    said = {"header": short(", ".join(reservations))}
    if policies:
        said["policy"] = short(policies[0])
    if any(reservation(value) for value in reservations):
        return Word(said, "tdm-reserved", f"tdm-reservation: {said['header']}{_with(said)}")
    return Word(said)


def metadata(fields: dict[str, str]) -> Word:
    """What `tdm-reservation` and `tdm-policy` in an image's XMP say."""
    if "tdm-reservation" not in fields:
        return Word({})
    said = {"xmp": fields["tdm-reservation"]}
    if "tdm-policy" in fields:
        said["policy"] = fields["tdm-policy"]
    if reservation(fields["tdm-reservation"]):
        return Word(said, "tdm-reserved", f"tdm:reservation {said['xmp']} in XMP{_with(said)}")
    return Word(said)


def _with(said: dict[str, str]) -> str:
    return f", policy {said['policy']}" if "policy" in said else ""
