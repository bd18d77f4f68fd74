"""Some rows of one manifest, chosen once: by source, licence, language.

A selection is a file of its own with a hash of its own, and reading it needs no catalog. It says which rows; in which
order they are used is the trainer's to say.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from licet.errors import ManifestDamagedError, MismatchError, UsageError
from licet.manifest import Manifest, write_durably
from licet.shards.index import ShardIndex

SELECTION_VERSION = 1


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows of a manifest: those that match every list that is given. An empty list asks nothing."""

    sources: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def matches(self, index: ShardIndex) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """One flag per record of an index; records that are not live never match."""
        flags = index.live()
        for field, column in _INDEX_COLUMN.items():
            if allowed := getattr(self, field):
                found = pc.is_in(index.table.column(column), value_set=pa.array(allowed, pa.string()))
                flags = flags & found.to_numpy()
        return flags


_INDEX_COLUMN = {"sources": "source_id", "licences": "licence", "languages": "language"}
"""Field of `Where` -> column of the index that it looks at. A further text column needs a line here and a field."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Some rows of one manifest, fixed once: per shard a count and a bitmap. Reading it needs no catalog."""

    manifest_identity: str
    where: Where
    counts: tuple[int, ...]
    """Chosen rows of each shard, in the manifest's order."""
    bitmaps: tuple[bytes, ...]
    """Bit i of a shard's bitmap, least significant bit first, says whether its record i was chosen."""

    @property
    def hash(self) -> str:
        """SHA-256 over the manifest's identity, the counts and the bitmaps."""
        digest = hashlib.sha256(self.manifest_identity.encode())
        for count, bitmap in zip(self.counts, self.bitmaps, strict=True):
            digest.update(count.to_bytes(8, "little") + bitmap)
        return digest.hexdigest()

    def __len__(self) -> int:
        return sum(self.counts)

    def positions(self, shard: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Chosen record positions of the shard-th entry, ascending."""
        bits = np.unpackbits(np.frombuffer(self.bitmaps[shard], dtype=np.uint8), bitorder="little")
        return np.flatnonzero(bits).astype(np.int64)

    def write(self, path: str | Path) -> None:
        """Write the selection to a file of its own."""
        table = pa.table(
            {"count": pa.array(self.counts, pa.int64()), "bitmap": pa.array(self.bitmaps, pa.binary())}
        ).replace_schema_metadata(
            {
                "licet_selection": str(SELECTION_VERSION),
                "manifest": self.manifest_identity,
                "where": json.dumps(asdict(self.where)),
                "hash": self.hash,
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write_durably(Path(path), buffer.getvalue())


def select(manifest: Manifest, where: Where) -> Selection:
    """Choose rows of a manifest. Raises `UsageError` when nothing matches."""
    counts: list[int] = []
    bitmaps: list[bytes] = []
    for entry in manifest.entries():
        flags = where.matches(manifest.index(entry, next(iter(entry.files))))
        counts.append(int(flags.sum()))
        bitmaps.append(np.packbits(flags, bitorder="little").tobytes())
    if not sum(counts):
        asked = {k: list(v) for k, v in asdict(where).items() if v} or "every live row"
        has = {k: list(manifest.totals[k]) for k in ("sources", "licences", "languages")}
        raise UsageError(f"no row of {manifest.path} matches {asked}: it holds {has}.")
    return Selection(manifest.identity, where, tuple(counts), tuple(bitmaps))


def read_selection(path: str | Path, manifest: Manifest) -> Selection:
    """Open a selection of this manifest.

    Raises `MismatchError` for a selection of another manifest, `ManifestDamagedError` for a damaged one.
    """
    try:
        table = pq.read_table(path)
        meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        where = Where(**{k: tuple(v) for k, v in json.loads(meta["where"]).items()})
        counts, bitmaps = tuple(table["count"].to_pylist()), tuple(table["bitmap"].to_pylist())
        selection = Selection(meta["manifest"], where, counts, bitmaps)
    except FileNotFoundError as error:
        raise UsageError(f"there is no selection at {path}.") from error
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ManifestDamagedError(f"{path} is not a selection ({error}). Make it again.") from error
    if selection.hash != meta["hash"]:
        raise ManifestDamagedError(f"selection {path} was altered: its hash does not match. Make it again.")
    if selection.manifest_identity != manifest.identity:
        raise MismatchError(
            f"selection {path} was made of manifest {selection.manifest_identity[:12]}, not of {manifest.path} "
            f"({manifest.identity[:12]}): make it again."
        )
    return selection
