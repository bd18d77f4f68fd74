"""What a trainer may read, for one purpose: a small root over columnar pages.

    manifest.json                     the root: schema, purpose, policy, totals, parent, page hashes, identity
    manifest.pages/<sha256>.parquet   one row per shard: paths, hashes, live rows, licences, languages, sources
    <shard>.index.arrow               one row per sample (see `licet.shards.index`)

The identity is a hash over what is in the data: schema, purpose, policy and content hashes in plan order. Paths,
attempt names and times are not in it, so that any engine and any number of workers give one identity. The checksum
is over the whole root, so that an altered one is refused; it is no signature.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from licet import storage
from licet.errors import DamagedError, ManifestDamagedError, MismatchError, PolicyRefusedError, UsageError
from licet.policy import Purpose
from licet.shards import FORMATS, ShardFormat, verify_shard
from licet.shards.fetched import local_shard
from licet.shards.index import ShardIndex, content_hash, file_sha256, fsync_folder

SCHEMA_VERSION = 1
SHARDS_PER_PAGE = 10_000
_PAGE_PATH = re.compile(r"[^/]+\.pages/[0-9a-f]{64}\.parquet")

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
"""One row per shard; paths are relative to the root's folder, or URLs. A page that is older than a format lacks it."""


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
    """One shard of a unit, which may have several: the same samples in each format that was written."""

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
    origin: str = ""
    """The URL below which paths lie, where the manifest was read from one; its root and pages are in the cache."""

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

    def locate(self, path: str) -> str:
        """A path of an entry: a path of this machine, or the URL that it is."""
        return storage.join(self.origin or str(self.folder), path)

    def resolve(self, path: str, sha256: str = "") -> str:
        """A path of an entry, as this machine opens it: what lies at a URL is first fetched into the cache.

        Raises `DamagedError` when what is fetched is not what its hash says, `PlatformError`.
        """
        return storage.local_copy(self.locate(path), sha256=sha256)

    def shard(self, entry: ShardEntry, format: ShardFormat) -> str:
        """The local path of an entry's shard with all that belongs to it, fetched as `resolve` does."""
        file = entry.files[format]
        return local_shard(format, self.locate(file.path), sha256=file.sha256)

    def index(self, entry: ShardEntry, format: ShardFormat) -> ShardIndex:
        """An entry's index, checked against its hash. Raises `ManifestDamagedError`."""
        file = entry.files[format]
        path = self.resolve(file.index_path, file.index_sha256)
        if not os.path.exists(path):
            raise ManifestDamagedError(f"{self.path}: the index {path} is missing. Restore it or publish again.")
        if file_sha256(path) != file.index_sha256:
            raise ManifestDamagedError(f"{self.path}: the index {path} was altered. Restore it or publish again.")
        return ShardIndex.open(path, verified=True)

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
    identity = _Identity(purpose, policy_hash)
    pages: list[dict[str, Any]] = []
    batch: list[ShardEntry] = []

    def flush() -> None:
        if batch:
            pages.append(_write_page(path, batch))
            batch.clear()

    for entry in entries:
        totals.add(entry)
        identity.add(entry)
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
    root["checksum"] = _checksum(root)
    write_durably(path, (json.dumps(root, indent=2, ensure_ascii=False) + "\n").encode())
    return read_manifest(path)


def read_manifest(path: str | Path) -> Manifest:
    """Open a manifest's root, at a path or a URL.

    Raises `UsageError` when there is none, `ManifestDamagedError` when it is not one, `PlatformError`.
    """
    if storage.is_url(str(path)):
        return _fetch_manifest(str(path))
    path = Path(path)
    try:
        root = json.loads(path.read_text(encoding="utf-8"))
        version = root["licet_manifest"]
        if version != SCHEMA_VERSION:
            raise MismatchError(f"{path} has manifest schema {version}; this licet reads {SCHEMA_VERSION}: upgrade it.")
        if root.pop("checksum") != _checksum(root):
            raise ManifestDamagedError(f"{path} was altered: its checksum does not match. Publish it again.")
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


def put_manifest(manifest: Manifest, url: str) -> None:
    """Copy a manifest to a URL, pages first: readers see the old root or the new one, which a store replaces whole.

    Raises `UsageError` when a shard lies on this machine, `PlatformError`.
    """
    for entry in manifest.entries():
        for file in entry.files.values():
            if not storage.is_url(manifest.locate(file.path)):
                raise UsageError(
                    f"{url} would name {manifest.locate(file.path)} of this machine: ingest with shards at a URL."
                )
    for page in manifest.pages:
        storage.put(str(manifest.folder / page["path"]), storage.join(url.rpartition("/")[0], page["path"]))
    storage.put_bytes(manifest.path.read_bytes(), url)


def _fetch_manifest(url: str) -> Manifest:
    """A manifest at a URL: its root as it is now, its pages fetched once."""
    folder, _, name = url.rpartition("/")
    cached = Path(storage.default_cache()) / "manifests" / hashlib.sha256(url.encode()).hexdigest() / name
    try:
        storage.fetch(url, str(cached))
    except FileNotFoundError as error:
        raise UsageError(f"there is no manifest at {url}: make one with `licet publish`.") from error
    manifest = read_manifest(cached)
    for page in manifest.pages:
        if not _PAGE_PATH.fullmatch(page["path"]):
            raise ManifestDamagedError(f"{url} names {page['path']!r}, which is no page of a manifest.")
        if not (manifest.folder / page["path"]).exists():
            storage.fetch(storage.join(folder, page["path"]), str(manifest.folder / page["path"]), page["sha256"])
    return replace(manifest, origin=folder)


def verify_manifest(manifest: Manifest) -> None:
    """Read every page, index and shard and compare all hashes and the identity. Raises `ManifestDamagedError`."""
    identity = _Identity(manifest.purpose, manifest.policy_hash)
    for entry in manifest.entries():
        identity.add(entry)
        for format, file in entry.files.items():
            index = manifest.index(entry, format)
            live = index.table.filter(index.table.column("live")).column("content")
            if len(live) != entry.live_rows or content_hash(live.to_pylist()) != entry.content:
                raise ManifestDamagedError(
                    f"{manifest.path}: the live rows of the index {manifest.resolve(file.index_path)} are not those "
                    f"of unit {entry.unit_id}. Publish it again."
                )
            shard = manifest.locate(file.path)
            try:
                verify_shard(format, manifest.shard(entry, format), file.sha256)
            except (DamagedError, FileNotFoundError) as error:
                raise ManifestDamagedError(
                    f"{manifest.path}: shard {shard} is missing or altered ({error}). Ingest its unit again."
                ) from error
    if identity.hexdigest() != manifest.identity:
        raise ManifestDamagedError(f"{manifest.path}: its identity is not that of its pages. Publish it again.")


class _Identity:
    """The hash over what is in the data. Every entry adds to it, in plan order."""

    def __init__(self, purpose: Purpose, policy_hash: str) -> None:
        self._digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, purpose.value, policy_hash]).encode())

    def add(self, entry: ShardEntry) -> None:
        self._digest.update(f"{entry.unit_id} {entry.live_rows} {entry.content}\n".encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _checksum(root: Mapping[str, Any]) -> str:
    """SHA-256 over the root's other fields, however the file is laid out."""
    return hashlib.sha256(json.dumps(root, sort_keys=True).encode()).hexdigest()


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
    write_durably(page, data)
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
            files = {f: ShardFile(**row[f]) for f in FORMATS if row.get(f) is not None}
            row = {k: v for k, v in row.items() if k not in FORMATS}
            for name in ("licences", "languages", "sources"):
                row[name] = dict(row[name])
            yield ShardEntry(**row, files=files)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, whatever stops this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync_folder(str(path.parent))
