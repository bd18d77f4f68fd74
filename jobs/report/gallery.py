"""Cards of kept samples for the page: a thumbnail or the start of a text, with caption, credit, licence and source.

Images are decoded and encoded again, so that only pixels reach the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from licet.errors import ShardDamagedError
from licet.ledger import Credit
from licet.manifest import Manifest
from licet.records import Sample
from licet.shards import open_reader
from licet.shards.index import record_name

THUMBNAIL_PX = 256
"""Longest side: twice what the page shows, for dense screens."""
EXCERPT_CHARACTERS = 320


@dataclass(frozen=True)
class Card:
    """One kept sample as the page shows it."""

    row_id: str
    caption: str
    language: str
    credit: str
    licence: str
    licence_url: str
    source_page: str
    source_url: str
    image: str
    """A data: URI; empty for text."""
    excerpt: str
    """Start of a text; empty for an image."""


def cards(manifest: Manifest, at_most: int) -> Iterator[Card]:
    """Up to `at_most` live samples, spread evenly over the manifest, in plan order.

    Raises `ShardDamagedError` for a record that fails its checksum or does not hold an image where one was promised.
    """
    live_rows = sum(entry.live_rows for entry in manifest.entries())
    step = max(1, -(-live_rows // max(1, at_most)))
    seen = 0
    for entry in manifest.entries():
        wanted = range((-seen) % step, entry.live_rows, step) if at_most else range(0)
        seen += entry.live_rows
        if not wanted:
            continue
        format = next(iter(entry.files))
        index = manifest.index(entry, format)
        live = index.live_positions()
        path = manifest.shard(entry, format)
        reader = open_reader(format, path, index, entry.files[format].sha256)
        try:
            for position in (live[i] for i in wanted):
                row = index.table.slice(position, 1).to_pylist()[0]
                yield _card(reader[position], row, path, record_name(index, position))
        finally:
            reader.close()


def _card(sample: Sample, row: dict[str, str], shard: str, record: str) -> Card:
    """`row` is the sample's row of the manifest's index, whose licence and credit may be newer than the shard's."""
    source = row["source_page"] or row["source_url"]
    credit = Credit(row["attribution"], row["creator"], row["licence"], row["licence_url"], source, rows=1)
    text = sample.payload_format == "txt"
    return Card(
        row_id=sample.key,
        caption=row["caption"],
        language="" if row["language"] == "und" else row["language"],
        credit=credit.line(),
        licence=row["licence"],
        licence_url=row["licence_url"],
        source_page=row["source_page"],
        source_url=row["source_url"],
        image="" if text else _thumbnail(sample.payload, shard, record),
        excerpt=sample.payload.decode("utf-8", "replace")[:EXCERPT_CHARACTERS] if text else "",
    )


def _thumbnail(payload: bytes, shard: str, record: str) -> str:
    """An encoded image, any mode -> a JPEG of at most `THUMBNAIL_PX` a side, as a data: URI."""
    try:
        with Image.open(io.BytesIO(payload)) as image:
            small = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ShardDamagedError(shard, record, f"its payload is not an image ({error})") from error
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
