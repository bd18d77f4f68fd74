"""A unit of images to be worked off, and every reason why a row of it may be refused on the way."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.images import dedup_options
from jobs.images.decoding import reasons as decoding
from jobs.images.lists import reasons as lists
from jobs.images.pixels import reasons as pixels
from jobs.rights import reasons as rights
from jobs.web import reasons as web

REASONS: dict[str, str] = {
    **lists.REASONS,
    # policy
    "licence-unparsable": "the row's licence is not an SPDX expression",
    "denied": "the policy denies it",
    "needs-review": "the policy wants a person to look at it",
    **rights.REASONS,
    **web.REASONS,
    **decoding.REASONS,
    **pixels.REASONS,
    **dedup_options.REASONS,
}
"""Every reason a row of images can be refused for, in the order of its walk."""


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Some rows of the plan, and where they are."""

    unit_id: str
    generation: int
    unit_index: int
    """Its place in the plan."""
    planned: int
    """Rows."""
    files: tuple[str, ...]
    """Parquet files of the plan table that hold its rows; one, unless somebody has rewritten the table."""
