"""How URLs are requested."""

from __future__ import annotations

from dataclasses import dataclass

from licet import __version__
from licet.errors import UsageError


@dataclass(frozen=True)
class FetchOptions:
    """How URLs are requested."""

    threads: int = 8
    """Requests under way at once, in each unit."""
    timeout_s: float = 10.0
    """Longest wait for a connection, and for the next bytes."""
    deadline_s: float = 60.0
    """Longest time for one whole transfer."""
    max_bytes: int = 50_000_000
    """Larger files are refused while they arrive."""
    retries: int = 2
    """Further attempts after 429, 5xx and broken connections."""
    backoff_s: float = 0.5
    """Wait before the first further attempt; doubled each time, with jitter."""
    max_wait_s: float = 30.0
    """Longest wait before a further attempt, whatever the server asks for."""
    max_redirects: int = 5
    """Longest chain of redirects."""
    user_agent: str = f"licet/{__version__} (builds licensed training data)"
    """Say who you are and how you can be reached."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.retries < 0 or self.timeout_s <= 0 or self.max_bytes < 1:
            raise UsageError(
                "fetch needs threads and max_bytes of at least 1, retries of at least 0 and timeout_s above 0, "
                f"found {self.threads}, {self.max_bytes}, {self.retries} and {self.timeout_s:g}."
            )
