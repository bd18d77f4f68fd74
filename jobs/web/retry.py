"""When a request is made again, and how long is waited before."""

from __future__ import annotations

import datetime
import random
from email.utils import parsedate_to_datetime

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Answers that may be different another time. All others are final."""


def retry_after_s(header: str, now: datetime.datetime) -> float:
    """Seconds of a Retry-After header in either form (RFC 9110, 10.2.3); 0 when it says nothing or a time gone by."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:12])
    try:
        date: datetime.datetime = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if date.tzinfo is None:  # "-0000", which an HTTP date never says, but means UTC
        date = date.replace(tzinfo=datetime.timezone.utc)
    seconds: float = (date - now).total_seconds()
    return max(seconds, 0.0)


def pause_s(attempt: int, backoff_s: float, asked_s: float, max_wait_s: float) -> float:
    """Wait after the `attempt`-th attempt (from 0): doubled each time, half to one and a half of it by chance.

    What the server asks for is a lower bound; `max_wait_s` an upper one.
    """
    return min(max(backoff_s * 2.0**attempt * random.uniform(0.5, 1.5), asked_s), max_wait_s)
