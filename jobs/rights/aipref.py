"""AI preferences of the IETF: a `Content-Usage` header, and `Content-Usage` lines in robots.txt.

Sources: draft-ietf-aipref-attach-05 (where they stand) and draft-ietf-aipref-vocab-08 (what they mean; RFC 9651 is the
syntax). A dictionary maps categories of use to `y` or `n`; ours is `train-ai`. Earlier drafts called it, or a category
that holds it, by other names: those are read too, the narrowest first. Anything else is no preference, as is a
dictionary that does not parse. In robots.txt the rule with the longest path counts, the stricter of two equals.
`Content-Signal` (draft-romm-aipref-contentsignals, `ai-train=no`) is read there as well: many sites have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import http_sf

from jobs.rights.finding import Word, short
from jobs.rights.groups import Line
from jobs.rights.patterns import Pattern, Target

CATEGORIES = ("train-ai", "train-genai", "genai", "ai", "tdm", "bots", "all")
"""Categories of use that training belongs to, the narrowest first: the first with a preference decides."""

_USAGE = {"y": True, "n": False}
_SIGNAL = {"yes": True, "no": False}


def preference(expression: str) -> bool | None:
    """Whether a Content-Usage expression allows training; None when it does not say."""
    return _preference(expression, CATEGORIES, _USAGE)


def _preference(expression: str, labels: Sequence[str], meaning: dict[str, bool]) -> bool | None:
    try:
        parsed: Any = http_sf.parse(expression.encode("utf-8", "surrogateescape"), tltype="dictionary")
    except (ValueError, OverflowError, OSError):  # OverflowError and OSError: a date that no calendar has
        return None
    for label in labels:
        value = parsed.get(label, (None,))[0]
        if isinstance(value, http_sf.Token) and str(value) in meaning:
            return meaning[str(value)]
    return None


def header(values: Sequence[str]) -> Word:
    """What the Content-Usage header lines of an answer say; they are one dictionary."""
    if not values:
        return Word({})
    expression = ", ".join(values)
    allowed = preference(expression)
    said = {"header": short(expression)}
    if allowed is False:
        return Word(said, "aipref-disallowed", f"Content-Usage: {short(expression)}")
    return Word(said)


class _Rule(NamedTuple):
    line: Line
    pattern: Pattern
    allowed: bool | None


class Rules:
    """The preferences in a robots.txt for our group."""

    __slots__ = ("_signals", "_usage")

    def __init__(self, lines: Iterable[Line]) -> None:
        rules = [_rule(line) for line in lines if line.field in ("content-usage", "content-signal")]
        rules.sort(key=lambda rule: -rule.pattern.length)
        self._usage = tuple(rule for rule in rules if rule.line.field == "content-usage")
        self._signals = tuple(rule for rule in rules if rule.line.field == "content-signal")

    def __bool__(self) -> bool:
        return bool(self._usage or self._signals)

    def decisive(self, target: Target) -> tuple[bool | None, Line] | None:
        """The preference for this URL and the line that states it; None when no line covers it."""
        found = [rule for rules in (self._usage, self._signals) if (rule := _longest(rules, target)) is not None]
        return min(((r.allowed, r.line) for r in found), key=_strictness, default=None)


def _rule(line: Line) -> _Rule:
    path, expression = "/", line.value
    if line.value.startswith("/"):
        path, _, expression = line.value.replace("\t", " ").partition(" ")
    if line.field == "content-signal":
        allowed = _preference(expression.strip().lower(), ("ai-train",), _SIGNAL)
    else:
        allowed = preference(expression.strip())
    return _Rule(line, Pattern(path), allowed)


def _longest(rules: Sequence[_Rule], target: Target) -> _Rule | None:
    """The longest rule that covers the URL; of several as long, the strictest."""
    best: _Rule | None = None
    for rule in rules:
        if best is not None and rule.pattern.length < best.pattern.length:
            break
        if rule.pattern.matches(target) and (best is None or _strictness(rule[2:]) < _strictness(best[2:])):
            best = rule
    return best


def _strictness(rule: Sequence[Any]) -> int:
    """Sorts no before yes before nothing said."""
    return {False: 0, True: 1, None: 2}[rule[0]]
