"""Some kept images as small JPEGs, from the shards that hold them.

They are decoded and encoded again, so that only pixels reach the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from PIL import Image

from jobs.report.run.outcomes import batches
from jobs.target import opened
from licet.errors import ShardDamagedError
from licet.records import Sample
from licet.shards import open_reader
from licet.shards.index import ShardIndex
from licet.storage import is_url

_SIDE_PX = 192
_MAX_FETCHED = 8
"""Shards that lie in a store are fetched whole: no more of them than this."""
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")


@dataclass(frozen=True)
class Thumbnail:
    """One kept image as the page shows it."""

    image: str
    """A data: URI."""
    caption: str
    licence: str
    credit: str
    source_page: str
    source_url: str


def thumbnails(output: Path, samples: Iterable[tuple[str, str]]) -> Iterator[Thumbnail]:
    """Kept images by (row id, unit id), in that order; texts are left out. Raises `ShardDamagedError`."""
    wanted: dict[str, list[str]] = {}
    for row_id, unit_id in samples:
        wanted.setdefault(unit_id, []).append(row_id)
    fetched = 0
    for unit_id, shards in _shards(output, list(wanted)).items():
        for shard in shards:
            fetched += is_url(shard["path"])
            if fetched <= _MAX_FETCHED or not is_url(shard["path"]):
                yield from _of_shard(output, shard, wanted[unit_id])


def _of_shard(output: Path, shard: Mapping[str, Any], row_ids: Iterable[str]) -> Iterator[Thumbnail]:
    """Those of the rows that lie in one shard: a unit may have several."""
    with opened(output, shard["index_path"]) as index_path:
        index = ShardIndex.open(index_path)
        positions = [pc.index(index.table["key"], row_id).as_py() for row_id in row_ids]
    if max(positions) < 0:
        return
    with opened(output, shard["path"], shard["sha256"]) as path:
        reader = open_reader(shard["format"], path, index, shard["sha256"])
        try:
            for sample in (reader[position] for position in positions if position >= 0):
                if sample.payload_format != "txt":
                    yield _thumbnail(sample, shard["path"])
        finally:
            reader.close()


def _shards(output: Path, unit_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Unit id -> its shards in one format, read from the table a batch at a time."""
    schema = pa.schema(dict.fromkeys(("unit_id", "format", "path", "index_path", "sha256"), pa.string()))
    found: dict[str, list[dict[str, Any]]] = {}
    asked = pa.array(unit_ids, pa.string())
    for batch in batches(DeltaTable(str(output / "catalog" / "shards")).file_uris(), schema):
        for row in batch.filter(pc.is_in(batch["unit_id"], value_set=asked)).to_pylist():
            found.setdefault(row["unit_id"], []).append(row)
    return {u: [s for s in found[u] if s["format"] == found[u][0]["format"]] for u in unit_ids if u in found}


def _thumbnail(sample: Sample, shard: str) -> Thumbnail:
    try:
        with Image.open(io.BytesIO(sample.payload), formats=_FORMATS) as image:
            image.draft("RGB", (_SIDE_PX, _SIDE_PX))
            small = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ShardDamagedError(shard, f"key {sample.key}", f"its payload is not an image ({error})") from error
    small.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(
        image=f"data:image/jpeg;base64,{data}",
        caption=sample.caption[:300],
        licence=sample.licence,
        credit=(sample.attribution or sample.creator)[:200],
        source_page=sample.source_page,
        source_url=sample.source_url,
    )
