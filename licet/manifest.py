"""What a trainer may read, for one purpose: a small root over columnar pages, and a selection of it.

    manifest.json                     the root: schema, purpose, policy, totals, parent, page hashes, identity
    manifest.pages/<sha256>.parquet   one row per shard: paths, hashes, live rows, licences, languages, sources
    <shard>.index.arrow               one row per sample (see `licet.shards.index`)

The identity is a hash over what is in the data: schema, purpose, policy and content hashes in plan order. Paths, attempt
names and times live in the envelope, which is not hashed, so that any engine and any number of workers give one identity.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from licet.errors import ManifestDamagedError, MismatchError, PolicyRefusedError, UsageError
from licet.policy import Purpose
from licet.shards import FORMATS, ShardFormat
from licet.shards.index import ShardIndex, file_sha256

SCHEMA_VERSION = 1
SHARDS_PER_PAGE = 10_000

_COUNTS = pa.map_(pa.string(), pa.int64())
PAGE_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("live_rows", pa.int64(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("licences", _COUNTS, nullable=False),
        pa.field("languages", _COUNTS, nullable=False),
        pa.field("sources", _COUNTS, nullable=False),
        *[
            pa.field(
                format,
                pa.struct(
                    [
                        ("path", pa.string()),
                        ("sha256", pa.string()),
                        ("n_bytes", pa.int64()),
                        ("index_path", pa.string()),
                        ("index_sha256", pa.string()),
                    ]
                ),
            )
            for format in FORMATS
        ],
    ]
)
"""One row per shard; paths are relative to the root's folder where they lie below or beside it."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One shard in one format, and its index."""

    path: str
    sha256: str
    n_bytes: int
    index_path: str
    index_sha256: str


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One unit's shard: the same samples in each format that was written."""

    unit_id: str
    rows: int
    live_rows: int
    content: str
    """SHA-256 over the live samples' content digests, in order: the same in every format."""
    licences: Mapping[str, int]
    languages: Mapping[str, int]
    sources: Mapping[str, int]
    files: Mapping[ShardFormat, ShardFile]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The root. `entries()` reads pages as they are asked for."""

    path: Path
    purpose: Purpose
    policy_hash: str
    identity: str
    totals: Mapping[str, Any]
    """rows, live_rows, shards, n_bytes, and counts by licence, language and source."""
    parent: str | None
    """Identity of the manifest that this one succeeds."""
    revoked: tuple[str, ...]
    """Keys that this manifest lacks and its parent had."""
    pages: tuple[Mapping[str, Any], ...]
    envelope: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def formats(self) -> tuple[ShardFormat, ...]:
        """Formats in which every shard was written."""
        return tuple(f for f in FORMATS if f in self.totals["n_bytes"])

    def entries(self) -> Iterator[ShardEntry]:
        """Every shard, in plan order. Raises `ManifestDamagedError` for a page that is absent or altered."""
        for page in self.pages:
            yield from _read_page(self.folder / page["path"], page["sha256"])

    def resolve(self, path: str) -> str:
        """A path of an entry, as this machine opens it."""
        return path if "://" in path or os.path.isabs(path) else str(self.folder / path)

    def index(self, entry: ShardEntry, format: ShardFormat) -> ShardIndex:
        """An entry's index, checked against its hash. Raises `ManifestDamagedError`."""
        file = entry.files[format]
        path = self.resolve(file.index_path)
        if not os.path.exists(path):
            raise ManifestDamagedError(f"{self.path}: the index {path} is missing. Restore it or publish again.")
        if file_sha256(path) != file.index_sha256:
            raise ManifestDamagedError(f"{self.path}: the index {path} was altered. Restore it or publish again.")
        return ShardIndex.open(path)

    def require_purpose(self, purpose: Purpose) -> None:
        """Raise `PolicyRefusedError` unless the manifest was published for this purpose."""
        if purpose is not self.purpose:
            raise PolicyRefusedError(
                f"{self.path} was published for {self.purpose.value}, not for {purpose.value}: publish the catalog for "
                f"{purpose.value} with `licet publish`, which decides each row's licence again."
            )


def write_manifest(
    path: str | Path,
    entries: Iterable[ShardEntry],
    purpose: Purpose,
    policy_hash: str,
    parent: Manifest | None = None,
    revoked: Iterable[str] = (),
    envelope: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write pages, then the root in one rename: a reader sees the old manifest or the new one, whole."""
    path = Path(path)
    totals = _Totals()
    identity = hashlib.sha256(json.dumps([SCHEMA_VERSION, purpose.value, policy_hash]).encode())
    pages: list[dict[str, Any]] = []
    batch: list[ShardEntry] = []

    def flush() -> None:
        if batch:
            pages.append(_write_page(path, batch))
            batch.clear()

    for entry in entries:
        totals.add(entry)
        identity.update(f"{entry.unit_id} {entry.live_rows} {entry.content}\n".encode())
        batch.append(entry)
        if len(batch) == SHARDS_PER_PAGE:
            flush()
    flush()
    root = {
        "licet_manifest": SCHEMA_VERSION,
        "identity": identity.hexdigest(),
        "purpose": purpose.value,
        "policy_hash": policy_hash,
        "parent": parent.identity if parent else None,
        "revoked": sorted(revoked),
        "totals": totals.as_dict(),
        "pages": pages,
        "envelope": dict(envelope or {}),
    }
    _write_durably(path, (json.dumps(root, indent=2, ensure_ascii=False) + "\n").encode())
    return read_manifest(path)


def read_manifest(path: str | Path) -> Manifest:
    """Open a manifest's root. Raises `UsageError` when there is none, `ManifestDamagedError` when it is not one."""
    path = Path(path)
    try:
        root = json.loads(path.read_text(encoding="utf-8"))
        version = root["licet_manifest"]
        if version != SCHEMA_VERSION:
            raise MismatchError(f"{path} has manifest schema {version}; this licet reads {SCHEMA_VERSION}: upgrade it.")
        return Manifest(
            path=path,
            purpose=Purpose(root["purpose"]),
            policy_hash=root["policy_hash"],
            identity=root["identity"],
            totals=root["totals"],
            parent=root["parent"],
            revoked=tuple(root["revoked"]),
            pages=tuple(root["pages"]),
            envelope=root["envelope"],
        )
    except FileNotFoundError as error:
        raise UsageError(f"there is no manifest at {path}: make one with `licet publish`.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestDamagedError(f"{path} is not a manifest ({error}). Publish it again.") from error


def verify_manifest(manifest: Manifest) -> None:
    """Read every page, index and shard and compare all hashes and the identity. Raises `ManifestDamagedError`."""
    identity = hashlib.sha256(json.dumps([SCHEMA_VERSION, manifest.purpose.value, manifest.policy_hash]).encode())
    for entry in manifest.entries():
        identity.update(f"{entry.unit_id} {entry.live_rows} {entry.content}\n".encode())
        for format, file in entry.files.items():
            manifest.index(entry, format)
            shard = manifest.resolve(file.path)
            if not os.path.exists(shard) or file_sha256(shard) != file.sha256:
                raise ManifestDamagedError(
                    f"{manifest.path}: shard {shard} is missing or altered. Ingest its unit again."
                )
    if identity.hexdigest() != manifest.identity:
        raise ManifestDamagedError(f"{manifest.path}: its identity is not that of its pages. Publish it again.")


class _Totals:
    def __init__(self) -> None:
        self.rows = self.live_rows = self.shards = 0
        self.n_bytes: dict[str, int] = {}
        self.counts: dict[str, dict[str, int]] = {"licences": {}, "languages": {}, "sources": {}}

    def add(self, entry: ShardEntry) -> None:
        self.rows += entry.rows
        self.live_rows += entry.live_rows
        self.shards += 1
        for format, file in entry.files.items():
            self.n_bytes[format] = self.n_bytes.get(format, 0) + file.n_bytes
        for name, totals in self.counts.items():
            for key, count in getattr(entry, name).items():
                totals[key] = totals.get(key, 0) + count

    def as_dict(self) -> dict[str, Any]:
        sorted_counts = {name: dict(sorted(counts.items())) for name, counts in self.counts.items()}
        return {
            "rows": self.rows,
            "live_rows": self.live_rows,
            "shards": self.shards,
            "n_bytes": self.n_bytes,
            **sorted_counts,
        }


def _write_page(root: Path, entries: list[ShardEntry]) -> dict[str, Any]:
    rows = []
    for entry in entries:
        row = {name: getattr(entry, name) for name in ("unit_id", "rows", "live_rows", "content")}
        for name in ("licences", "languages", "sources"):
            row[name] = list(getattr(entry, name).items())
        for format in FORMATS:
            row[format] = asdict(entry.files[format]) if format in entry.files else None
        rows.append(row)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=PAGE_SCHEMA), buffer, compression="zstd")
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    page = root.with_suffix(".pages") / f"{sha256}.parquet"
    _write_durably(page, data)
    return {"path": f"{page.parent.name}/{page.name}", "sha256": sha256, "shards": len(entries)}


def _read_page(path: Path, sha256: str) -> Iterator[ShardEntry]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestDamagedError(f"manifest page {path} cannot be read: {error.strerror}. Publish again.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ManifestDamagedError(f"manifest page {path} was altered. Restore it or publish again.")
    for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(1024):
        for row in batch.to_pylist():
            files = {f: ShardFile(**row.pop(f)) for f in FORMATS if row[f] is not None}
            row = {k: v for k, v in row.items() if k not in FORMATS}
            for name in ("licences", "languages", "sources"):
                row[name] = dict(row[name])
            yield ShardEntry(**row, files=files)


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows of a manifest: those that match every list that is given. An empty list asks nothing."""

    sources: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def matches(self, index: ShardIndex) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """One flag per record of an index; records that are not live never match."""
        flags = np.array(index.table.column("live").to_pylist(), dtype=bool)
        for column, allowed in (("source_id", self.sources), ("licence", self.licences), ("language", self.languages)):
            if allowed:
                flags &= np.isin(np.array(index.table.column(column).to_pylist(), dtype=object), allowed)
        return flags


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
                "licet_selection": str(SCHEMA_VERSION),
                "manifest": self.manifest_identity,
                "where": json.dumps(asdict(self.where)),
                "hash": self.hash,
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        _write_durably(Path(path), buffer.getvalue())


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
    """Open a selection of this manifest. Raises `MismatchError` for another's, `ManifestDamagedError` for a damaged one."""
    try:
        table = pq.read_table(path)
        meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        where = Where(**{k: tuple(v) for k, v in json.loads(meta["where"]).items()})
        counts, bitmaps = tuple(table["count"].to_pylist()), tuple(table["bitmap"].to_pylist())
        selection = Selection(meta["manifest"], where, counts, bitmaps)
    except FileNotFoundError as error:
        raise UsageError(f"there is no selection at {path}.") from error
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError) as error:
        raise ManifestDamagedError(f"{path} is not a selection ({error}). Make it again.") from error
    if selection.hash != meta["hash"]:
        raise ManifestDamagedError(f"selection {path} was altered: its hash does not match. Make it again.")
    if selection.manifest_identity != manifest.identity:
        raise MismatchError(
            f"selection {path} was made of manifest {selection.manifest_identity[:12]}, not of {manifest.path} "
            f"({manifest.identity[:12]}): make it again."
        )
    return selection
