"""What passes between the stages of an image's walk, and why a row may be refused on the way.

SourceRecord ─fetch─► Fetched ─decode─► Decoded ─resize─► Encoded          or `licet.records.Rejected` at any step
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from PIL import Image

from jobs.images.options import ImageFormat
from licet.records import SourceRecord

REASONS: dict[str, str] = {
    # read
    "row-malformed": "the line is not a row of its list",
    "row-not-utf8": "the row holds bytes that are not UTF-8 text",
    "url-missing": "the row has no URL",
    "url-malformed": "the URL is not an absolute http or https URL",
    # policy
    "licence-unparsable": "the row's licence is not an SPDX expression",
    "denied": "the policy denies it",
    "needs-review": "the policy wants a person to look at it",
    # fetch
    "connection": "no connection, or it broke before the end",
    "tls": "the server's certificate does not hold",
    "timeout": "the server took too long",
    "http-status": "the server answered with a status other than 200",
    "too-many-redirects": "the server redirects without end",
    "redirect-refused": "the server redirects to something that is not an http or https URL",
    "too-large": "the file is larger than the limit",
    # decode
    "not-an-image": "its first bytes are not those of a JPEG, PNG, WebP, GIF, BMP or TIFF",
    "too-many-pixels": "its header promises more pixels than the limit",
    "damaged-image": "it does not decode to its end",
    "unsupported-pixels": "its pixels have no defined range, such as floating-point TIFF",
    # deduplicate
    "duplicate": "an earlier row has the same bytes",
}
"""Every reason a row of images can be refused for, in the order of its walk."""


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Some consecutive rows of the plan, and where they are."""

    unit_id: str
    generation: int
    first_ordinal: int
    planned: int
    """Rows."""
    files: tuple[str, ...]
    """Parquet files of the plan table that hold its rows; one, unless somebody has rewritten the table."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A row and the bytes that its URL gave."""

    record: SourceRecord
    data: bytes
    requests: int
    """Requests sent for it, redirects and retries included."""

    @property
    def sha256(self) -> str:
        """Of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright pixels in sRGB."""

    image: Image.Image
    """Mode RGB, no metadata."""
    original_width: int
    """Pixels, upright, before any resizing."""
    original_height: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a shard stores of an image."""

    payload: bytes
    payload_format: ImageFormat
    width: int
    height: int
    phash: str
    """64-bit perceptual hash of the whole image before cropping, in hexadecimal."""
