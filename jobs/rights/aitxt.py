"""ai.txt, as Spawning's generator writes it: robots.txt's form, about training instead of crawling.

    User-Agent: *
    Disallow: *.jpg
    Allow: *.txt
    Disallow: /

There is no standard. Our reading: groups and precedence are as in robots.txt (the longest rule wins, Allow at a tie). A
rule `*.jpg` or `.jpg` is about files of that extension, in any case of letters, and counts also for an image that its
first bytes show to be a JPEG while its URL has another extension or none. `image/*` and `image/jpeg` are media types.
All other rules are path patterns. A page of HTML in its place is no ai.txt.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jobs.rights.groups import Line, our_lines
from jobs.rights.patterns import Pattern, Target

_EXTENSION = re.compile(r"\*?\.([A-Za-z0-9]{1,8})\$?").fullmatch
_MEDIA_TYPE = re.compile(r"(image|video|audio|text|application|\*)/([A-Za-z0-9.+*-]+)").fullmatch
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,8})$").search

EXTENSIONS = {
    "jpeg": frozenset({"jpg", "jpeg", "jpe", "jfif"}),
    "png": frozenset({"png", "apng"}),
    "webp": frozenset({"webp"}),
    "gif": frozenset({"gif"}),
    "avif": frozenset({"avif"}),
    "tiff": frozenset({"tif", "tiff"}),
    "bmp": frozenset({"bmp"}),
}
"""Media subtype of an image -> extensions of such files."""


class _Rule(NamedTuple):
    line: Line
    extension: str
    subtype: str
    """Of image/…; `*` is any."""
    pattern: Pattern | None
    """None for a rule about extensions or media types."""


class AiTxt:
    """The part of one ai.txt that is ours. Never changes: threads share it."""

    __slots__ = ("_rules", "by_type", "weight")

    def __init__(self, text: str, agent: str) -> None:
        lines = [] if text.lstrip().startswith("<") else our_lines(text, agent)
        lines = [line for line in lines if line.field in ("allow", "disallow") and line.value]
        lines.sort(key=lambda line: (-len(line.value), line.field))  # "allow" before "disallow"
        self._rules = tuple(_rule(line) for line in lines)
        self.by_type = any(rule.pattern is None for rule in self._rules)
        """Whether knowing the kind of image can change the answer."""
        self.weight = sum(400 + len(line.value) for line in lines)
        """Bytes of memory, roughly."""

    def refusal(self, target: Target, subtype: str = "") -> Line | None:
        """The line that disallows this image; `subtype` is of its media type, once its bytes are here."""
        found = _SUFFIX(target.path.partition("?")[0])
        extensions = EXTENSIONS.get(subtype, frozenset()) | ({found[1].lower()} if found else frozenset())
        for rule in self._rules:
            if _covers(rule, target, extensions):
                return rule.line if rule.line.field == "disallow" else None
        return None


def _rule(line: Line) -> _Rule:
    if found := _EXTENSION(line.value):
        return _Rule(line, found[1].lower(), "", None)
    if found := _MEDIA_TYPE(line.value):
        subtype = found[2].lower() if found[1] in ("image", "*") else "none"
        return _Rule(line, "", subtype, None)
    return _Rule(line, "", "", Pattern(line.value))


def _covers(rule: _Rule, target: Target, extensions: frozenset[str]) -> bool:
    if rule.pattern is not None:
        return rule.pattern.matches(target)
    if rule.extension:
        return rule.extension in extensions
    return rule.subtype == "*" or not extensions.isdisjoint(EXTENSIONS.get(rule.subtype, ()))
