"""Shards that lie at URLs, as files of this machine: a shard's own file and, in some formats, members beside it."""

from __future__ import annotations

import os
from pathlib import Path

from licet import storage
from licet.shards import ShardFormat, members


def local_shard(format: ShardFormat, url: str, cache_folder: str | Path | None = None, sha256: str = "") -> str:
    """The local path of a shard with all that belongs to it, as `storage.local_copy` gives it.

    Raises `DamagedError` for a file that is not what was written, FileNotFoundError, `PlatformError`.
    """
    path = storage.local_copy(url, cache_folder, sha256)
    if not storage.is_url(url):
        return path
    for member in members(format, path):
        local = os.path.join(os.path.dirname(path), member.name)
        if not os.path.exists(local):
            storage.fetch(storage.join(url.rsplit("/", 1)[0], member.name), local, member.sha256)
    return path
