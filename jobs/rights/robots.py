"""robots.txt (RFC 9309): may we request this URL? Protego matches the paths; the longest rule wins, Allow at a tie."""

from __future__ import annotations

import math
import re
from urllib.parse import quote

from protego import Protego

from jobs.rights import aipref
from jobs.rights.groups import Line, our_lines
from jobs.rights.patterns import Pattern, Target

_ENDS = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # end a line for Protego, but not for RFC 9309


class Robots:
    """The part of one robots.txt that is ours. Its answers never change: threads share it."""

    __slots__ = ("_agent", "_disallowing", "_patterns", "_rules", "crawl_delay_s", "usage", "weight")

    def __init__(self, text: str, agent: str) -> None:
        lines = our_lines(text, agent)
        rules = [line for line in lines if line.field in ("allow", "disallow") and line.value]
        self._agent = agent
        self._rules: Protego | None = None
        if rules:
            text = "\n".join(f"{rule.field}: {_ENDS.sub(_encoded, rule.value)}" for rule in rules)
            self._rules = Protego.parse("User-agent: *\n" + text)
            self._rules.can_fetch("http://h/", agent)  # it builds its index with the first question
        self._disallowing = [rule for rule in rules if rule.field == "disallow"]
        self._patterns: list[tuple[Pattern, Line]] | None = None
        self.crawl_delay_s = _crawl_delay_s(lines)
        """Seconds between requests that the site asks for; None when it does not."""
        self.usage = aipref.Rules(lines)
        self.weight = sum(400 + len(line.value) for line in lines)
        """Bytes of memory, roughly."""

    def allows(self, target: Target) -> bool:
        """Whether we may request it."""
        return self._rules is None or self._rules.can_fetch(target.question, self._agent)

    def refusal(self, target: Target) -> Line | None:
        """The rule by which `allows` says no: the longest that covers the URL."""
        if self._patterns is None:
            patterns = [(Pattern(line.value), line) for line in self._disallowing]
            self._patterns = sorted(patterns, key=lambda found: -found[0].length)
        return next((line for pattern, line in self._patterns if pattern.matches(target)), None)


def _encoded(found: re.Match[str]) -> str:
    return quote(found[0])


def _crawl_delay_s(lines: list[Line]) -> float | None:
    for line in lines:
        if line.field == "crawl-delay":
            try:
                delay_s = float(line.value)
            except ValueError:
                continue
            if math.isfinite(delay_s) and delay_s >= 0:
                return delay_s
    return None
