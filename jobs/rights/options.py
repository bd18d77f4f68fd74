"""How sites are asked about their wishes. Which protocols bind a source is said in the source's YAML, not here."""

from __future__ import annotations

from dataclasses import dataclass

from licet.errors import UsageError
from licet.sources import OPT_OUT_PROTOCOLS

PROTOCOLS = OPT_OUT_PROTOCOLS
"""Every name that a source's `opt_out_protocols` may list. An empty list there: nothing is asked, nothing requested."""

DAY_S = 86_400.0


@dataclass(frozen=True)
class RightsOptions:
    """How sites are asked about their wishes."""

    agent: str = "licet"
    """Our name in robots.txt, ai.txt and X-Robots-Tag; use the same in the User-Agent."""
    max_files: int = 30_000
    """Answers kept in memory, in each process: up to three for each site."""
    max_cache_bytes: int = 64_000_000
    """Memory for them, roughly; the least recently used ones go first."""
    ttl_s: float = DAY_S
    """How long an answer holds; a day at most (RFC 9309, 2.4)."""
    failed_ttl_s: float = 300.0
    """How long a failure holds before the site is asked again."""

    def __post_init__(self) -> None:
        if not 0 < self.ttl_s <= DAY_S or not 0 < self.failed_ttl_s <= DAY_S:
            raise UsageError(
                f"rights.ttl_s and rights.failed_ttl_s must be above 0 and at most {DAY_S:g}, "
                f"found {self.ttl_s:g} and {self.failed_ttl_s:g}."
            )
        if not self.agent or self.max_files < 1 or self.max_cache_bytes < 1:
            raise UsageError(
                "rights needs an agent name, max_files and max_cache_bytes of at least 1, "
                f"found {self.agent!r}, {self.max_files} and {self.max_cache_bytes}."
            )
