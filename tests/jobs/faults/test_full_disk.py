"""However a full disk comes to light, a person reads the same sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.session import plain_errors
from licet.errors import LicetError, PlatformError


def test_a_write_that_finds_no_room_is_told_as_a_full_disk() -> None:
    with pytest.raises(PlatformError, match="the disk is full: free some space"), plain_errors():
        Path("/dev/full").write_text("x")


def test_units_that_found_no_room_are_told_as_a_full_disk() -> None:
    with pytest.raises(PlatformError, match="the disk is full: free some space"), plain_errors():
        raise LicetError("1 of 1 units failed for good (u: OSError: [Errno 28] No space left on device)")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), plain_errors():
        Path("/nowhere/at/all").read_text()
    with pytest.raises(LicetError, match=r"^units failed$"), plain_errors():
        raise LicetError("units failed")
