"""Which rows count as copies of one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from licet.errors import UsageError

DedupMode = Literal["none", "exact", "near"]

REASONS = {
    "duplicate": "an earlier row has the same bytes",
    "near-duplicate": "an earlier row looks the same",
    "opted-out-copy": "a copy of it, at another URL, asks not to be used",
}
"""Reasons of rows that a deduplication drops."""

MAX_DISTANCE = 10


@dataclass(frozen=True)
class DedupOptions:
    """Which rows count as copies of one another."""

    mode: DedupMode = "exact"
    """`exact` compares the original bytes, `near` also what the images look like, `none` nothing."""
    near_distance: int = 4
    """Bits, of 64, in which the perceptual hashes of near-duplicates may differ; copies of copies count as well."""

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= MAX_DISTANCE:
            raise UsageError(f"near_distance must be 0 to {MAX_DISTANCE} bits, found {self.near_distance}.")
