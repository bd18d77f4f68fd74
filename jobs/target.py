"""Where attempts' files go: below the output, which all machines see as one folder, or below a URL of any store.

    with Target(output, "s3://bucket/x").unit(unit_id) as place:
        write place.folder / "a.tar"
        path = place.keep(place.folder / "a.tar")        as `commits` names it: a URL, or a path from the output

A URL is filled from a temporary folder; a local output is written directly. Every name holds its attempt's id, so
nothing is ever renamed or written twice, and what no commit names is not there for anybody. This file knows names, not
what is in the files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.layout import SHARDS
from licet import storage
from licet.shards.index import fsync_folder

_UPLOADS = 8
"""Files of one unit that are under way at once."""


@dataclass(frozen=True)
class Target:
    """An output and, where shards do not lie in it, their URL."""

    output: str
    """Folder on this machine, shared with all executors."""
    shards: str = ""
    """URL below which attempts write, such as s3://bucket/x; below the output when empty."""

    @property
    def root(self) -> str:
        """Folder or URL of `<unit>/<attempt>…`."""
        return storage.join(self.shards or self.output, SHARDS)

    @contextmanager
    def unit(self, unit_id: str) -> Iterator[UnitPlace]:
        """A unit's place. Raises OSError."""
        if not storage.is_url(self.root):
            folder = Path(self.root) / unit_id
            folder.mkdir(parents=True, exist_ok=True)
            yield UnitPlace(folder, lambda path: os.path.relpath(path, self.output))
            return
        with tempfile.TemporaryDirectory(prefix="licet-unit-") as temporary:
            yield UnitPlace(Path(temporary), lambda path: self._upload(path, temporary, unit_id))

    def _upload(self, path: str, folder: str, unit_id: str) -> str:
        url = storage.join(self.root, f"{unit_id}/{Path(path).relative_to(folder).as_posix()}")
        storage.put(path, url)
        os.unlink(path)  # the temporary folder holds what is under way, not a whole unit
        return url


@dataclass(frozen=True)
class UnitPlace:
    """Where one attempt of a unit writes its files."""

    folder: Path
    _keep: Callable[[str], str]

    def keep(self, path: str | Path) -> str:
        """Put a finished, durable file where it belongs; its name as `commits` has it.

        Raises `PlatformError` when the store does not take it.
        """
        return self._keep(str(path))

    def keep_all(self, paths: list[str]) -> list[str]:
        """The same for many small files, several at once."""
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="licet-upload") as threads:
            return list(threads.map(self.keep, paths))


def locate(output: str | Path, path: str) -> str:
    """What `commits` names, as it is opened: a path of this machine, or a URL."""
    return storage.join(str(output), path)


@contextmanager
def opened(output: str | Path, path: str, sha256: str = "") -> Iterator[str]:
    """What `commits` names, as a file of this machine for as long as this lasts.

    Raises `DamagedError` when what is fetched is not what its hash says, FileNotFoundError, `PlatformError`.
    """
    where = locate(output, path)
    if not storage.is_url(where):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="licet-fetched-") as folder:
        local = os.path.join(folder, where.rsplit("/", 1)[1])
        storage.fetch(where, local, sha256)
        yield local


def put_beside(local: str, place: str) -> None:
    """Make a finished local file the one at `place`, a path or a URL that nobody else writes other bytes to."""
    if storage.is_url(place):
        storage.put(local, place)
        return
    os.replace(local, place)
    fsync_folder(os.path.dirname(place))
