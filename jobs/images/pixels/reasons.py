"""Why an image that decodes is refused all the same."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "too-small": "its short side is below the limit, or too short for every bucket",
    "too-large-area": "it has more pixels than was asked for",
    "aspect-ratio": "it is longer and narrower than was asked for",
    "too-large-for-format": "the format that is stored cannot hold sides of this length",
    "boxes-malformed": "what is to be blurred is not a list of boxes [left, top, right, bottom] of fractions",
}

TRANSIENT: frozenset[str] = frozenset()
"""None of them passes by itself."""
