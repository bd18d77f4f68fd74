"""The three records that everything passes on, and their Arrow schemas.

    SourceRecord ──► Sample       kept
                └──► Rejected     refused, with a reason

Field names are the same here, in every shard format and in the catalog.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Literal

import pyarrow as pa

PayloadFormat = Literal["jpg", "png", "webp", "avif", "txt"]
Stage = Literal["read", "policy", "rights", "fetch", "decode", "transform", "deduplicate", "revoke"]


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One row of a source's list, before anything is known about its content."""

    row_id: str
    """Stable id: see `row_id_of`."""
    source_id: str
    url: str
    caption: str = ""
    licence: str = "NOASSERTION"
    """SPDX expression: the row's own, or else its source's."""
    licence_url: str = ""
    creator: str = ""
    attribution: str = ""
    """The credit line to show, as the creator asks for it."""
    source_page: str = ""
    """The page for people on which the original stands."""
    language: str = "und"
    """BCP-47 tag of the caption or text."""
    expected_hash: str = ""
    """What the list says that the bytes hash to: `md5:`, `sha256:` or `sha512:` and hexadecimal digits."""
    boxes: str = "[]"
    """JSON list of [left, top, right, bottom], fractions of the upright image: what the list says is to be blurred."""
    extra: str = "{}"
    """JSON object of the list's further columns, by name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One kept row: its payload and everything that must travel with it."""

    key: str
    """Equal to the row id; unique in a catalog."""
    payload: bytes
    """Encoded image, or UTF-8 text."""
    payload_format: PayloadFormat
    caption: str
    width: int
    """Pixels, as stored; 0 for text."""
    height: int
    original_width: int
    """Pixels, upright (after EXIF orientation), before resizing; 0 for text."""
    original_height: int
    sha256: str
    """Of the original bytes, in hexadecimal."""
    phash: str
    """64-bit perceptual hash of the image in hexadecimal; empty for text."""
    source_id: str
    source_url: str
    source_page: str
    licence: str
    licence_url: str
    creator: str
    attribution: str
    language: str
    rights: str
    """JSON object of what robots.txt, X-Robots-Tag … said; `{}` when nothing was asked."""
    decision: str
    """Id of the policy rule that let the row in."""
    extra: str = "{}"
    """JSON object of the list's further columns, by name."""
    exif: str = "{}"
    """JSON object of EXIF tags, by name; `{}` unless the ingest was asked to keep them."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One refused row. `reason` is from a fixed vocabulary; `detail` is for people."""

    row_id: str
    stage: Stage
    reason: str
    rule: str = ""
    """Policy rule id, when the policy refused it."""
    detail: str = ""
    http_status: int = 0
    """0 when no answer was received."""
    requests: int = 0
    """Requests sent for this row, retries included."""
    duplicate_of: str = ""
    """Row id of the copy that was kept."""
    transient: bool = False
    """Whether the same row may end better another time: `--retry transient` takes these."""


SAMPLE_SCHEMA = pa.schema(
    [
        pa.field(f.name, {"bytes": pa.binary(), "int": pa.int32()}.get(str(f.type), pa.string()), nullable=False)
        for f in fields(Sample)
    ]
)
"""Arrow schema of a `Sample`, in field order."""

OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("generation", pa.int32(), nullable=False),
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # "kept" or "rejected"
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("http_status", pa.int32(), nullable=False),
        pa.field("requests", pa.int32(), nullable=False),
        pa.field("duplicate_of", pa.string(), nullable=False),
        pa.field("transient", pa.bool_(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),  # received for this row, redirects and retries included
        pa.field("fetch_ms", pa.int32(), nullable=False),  # from the first request to the last byte
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        *[
            pa.field(name, SAMPLE_SCHEMA.field(name).type, nullable=False)
            for name in (
                "caption", "width", "height", "original_width", "original_height", "sha256", "phash", "source_id",
                "source_url", "source_page", "licence", "licence_url", "creator", "attribution", "language", "rights",
                "extra", "exif",
            )
        ],
    ]
)  # fmt: skip
"""Arrow schema of one row of an outcomes file: one per planned row, kept or rejected."""


def row_id_of(source_id: str, url: str, occurrence: int) -> str:
    """Id of the `occurrence`-th row (from 0) of a source that names this URL: 16 bytes of SHA-256, in hexadecimal.

    It depends on nothing but the row, so a list that grows keeps the ids that it had.
    """
    text = "\x1f".join((source_id, url, str(occurrence)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
