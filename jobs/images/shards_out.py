"""One unit's shards: the same samples in every format, cut at the same samples, whatever the format.

    with ShardsOut(place, attempt, formats, limits) as shards:
        shards.add(sample)
        report = shards.close()          rows, content, counts and files, as a `CommitRow` has them

A unit is one shard in each format until it passes a limit; then it goes on in `<attempt>-00001`, and so on. What counts
towards the limit on bytes is the canonical encoding of a sample, so that neither the formats asked for nor the engine
move a cut. Knows samples and files; not how a row became a sample.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from jobs.faults import write_point
from jobs.target import UnitPlace
from licet.errors import UsageError
from licet.records import Sample
from licet.shards import EXTENSIONS, ShardFormat, ShardWriter, members, open_writer
from licet.shards.index import ShardIndex, content_hash, encode, file_sha256, index_path, total_by


@dataclass(frozen=True)
class ShardLimits:
    """When a unit's samples go on in another shard. The data set's identity depends on these, and on no engine."""

    max_shard_rows: int = 0
    """Most samples of a shard; 0 for no limit but the unit's rows."""
    max_shard_bytes: int = 0
    """Most bytes of samples in a shard, before a format's own framing; 0 for no limit. A sample that is larger is a
    shard of its own."""

    def __post_init__(self) -> None:
        if self.max_shard_rows < 0 or self.max_shard_bytes < 0:
            found = f"{self.max_shard_rows}, {self.max_shard_bytes}"
            raise UsageError(f"max_shard_rows and max_shard_bytes are 0 or more, found {found}.")


class ShardsOut:
    """Files are made with a shard's first sample: a unit that keeps nothing has none.

    As a context it abandons what is open on an error.
    """

    def __init__(
        self, place: UnitPlace, attempt: str, formats: tuple[ShardFormat, ...], limits: ShardLimits = ShardLimits()
    ) -> None:
        self._place, self._attempt, self._formats, self._limits = place, attempt, formats, limits
        self._writers: dict[ShardFormat, ShardWriter] = {}
        self._indexes: list[ShardIndex] = []
        self._files: list[dict[str, Any]] = []
        self._rows = self._n_bytes = 0

    def __enter__(self) -> ShardsOut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for writer in self._writers.values():
                writer.abandon()

    def add(self, sample: Sample) -> None:
        """Append a sample to the shard of every format. Raises as `ShardWriter.add` does; `PlatformError`."""
        encoded = encode(sample)
        if self._is_full(len(encoded)):
            self._finish_shard()
        if not self._writers:
            self._writers = {format: open_writer(format, self._path(format)) for format in self._formats}
        for writer in self._writers.values():
            writer.add(sample, encoded)
        self._rows += 1
        self._n_bytes += len(encoded)
        write_point("shard half written")

    def close(self) -> dict[str, Any]:
        """Finish the last shard; what a `CommitRow` says of a unit's shards."""
        if self._writers:
            self._finish_shard()
        return {
            "rows": sum(map(len, self._indexes)),
            "content": _content(self._indexes) if self._indexes else "",
            "licences": total_by(self._indexes, "licence"),
            "languages": total_by(self._indexes, "language"),
            "sources": total_by(self._indexes, "source_id"),
            "files": self._files,
        }

    def _is_full(self, n_more: int) -> bool:
        """Whether the open shard takes no sample of so many bytes. An empty shard takes any."""
        rows, n_bytes = self._limits.max_shard_rows, self._limits.max_shard_bytes
        too_many = rows and self._rows >= rows
        too_large = n_bytes and self._n_bytes + n_more > n_bytes
        return bool(self._rows and (too_many or too_large))

    def _finish_shard(self) -> None:
        """Make the open shard durable in every format and put it where it belongs."""
        number = len(self._indexes)
        for format, writer in self._writers.items():
            index = writer.close()
            write_point("shard whole, no index")
            same: dict[str, Any] = {"format": format, "shard": number, "rows": len(index), "content": _content([index])}
            self._files.append(same | self._kept(format))
        self._indexes.append(index)
        self._writers, self._rows, self._n_bytes = {}, 0, 0

    def _kept(self, format: ShardFormat) -> dict[str, Any]:
        path = self._path(format)
        index = index_path(path)
        beside = members(format, path)
        hashes = {"sha256": file_sha256(path), "index_sha256": file_sha256(index)}
        n_bytes = os.path.getsize(path) + sum(member.n_bytes for member in beside)
        self._place.keep_all([str(self._place.folder / member.name) for member in beside])
        return hashes | {
            "n_bytes": n_bytes,
            "path": self._place.keep(path),
            "index_path": self._place.keep(index),
        }

    def _path(self, format: ShardFormat) -> str:
        return str(Path(self._place.folder) / f"{self._attempt}-{len(self._indexes):05d}{EXTENSIONS[format]}")


def _content(indexes: list[ShardIndex]) -> str:
    return content_hash(content for index in indexes for content in index.table.column("content").to_pylist())
