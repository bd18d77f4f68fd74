"""Waits between attempts."""

from __future__ import annotations

import datetime

import pytest

from jobs.web.retry import pause_s, retry_after_s

NOW = datetime.datetime(2026, 11, 21, 12, 0, 0, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90.0),
        ("Saturday, 21-Nov-26 12:00:10 GMT", 10.0),
        ("Sat Nov 21 12:00:20 2026", 20.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("Sat, 99 Nov 2026 12:00:00 GMT", 0.0),
        ("٣", 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds


def test_waits_grow_and_stay_within_their_bounds() -> None:
    for attempt in range(6):
        waits = [pause_s(attempt, 0.5, 0.0, 10.0) for _ in range(200)]
        assert min(waits) >= min(0.25 * 2**attempt, 10)
        assert max(waits) <= min(0.75 * 2**attempt, 10)
        assert len(set(waits)) > 1 or 0.25 * 2**attempt >= 10
    assert pause_s(0, 0.5, 4.0, 10.0) == 4.0
    assert pause_s(0, 0.5, 99.0, 10.0) == 10.0
