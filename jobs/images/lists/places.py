"""Where lists lie, and their bytes: any fsspec URL, a folder, a glob; gz, bz2, xz, zst and lz4 undone on the way.

gzip, bz2 and xz are Python's, zst and lz4 are Arrow's, because both notice a file that was cut off. A place travels to
the executors with its file system. This file knows bytes, not rows.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from licet.sources import ListFormat

READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What a list that is damaged, cut off or of another format raises while it is read."""

_DECOMPRESSORS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"),
    ".lz4": lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "lz4"),
}
_EXTENSIONS: dict[ListFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "txt": (".txt", ".lst", ".urls"),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """One file."""

    fs: AbstractFileSystem
    path: str

    @property
    def name(self) -> str:
        """As messages show it."""
        local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        return self.path if local else str(self.fs.unstrip_protocol(self.path))

    @property
    def compression(self) -> str:
        """Its last extension, when that says how it is compressed."""
        extension = PurePosixPath(self.path.split("?")[0]).suffix.lower()
        return extension if extension in _DECOMPRESSORS else ""

    def n_bytes(self) -> int:
        """Size; 0 for a file that can only be read from its beginning, or that does not say its size."""
        with self.fs.open(self.path, "rb") as file:
            size = getattr(file, "size", None)
            try:
                file.seek(1)
                file.read(1)  # a site that knows no ranges says so only now
            except (ValueError, OSError):
                return 0
        return int(size if size is not None else self.fs.size(self.path) or 0)

    @contextmanager
    def stored(self) -> Iterator[IO[bytes]]:
        """The bytes as they lie there."""
        with self.fs.open(self.path, "rb") as file:
            yield file

    @contextmanager
    def content(self) -> Iterator[IO[bytes]]:
        """The bytes, decompressed, as a stream from the beginning."""
        with self.stored() as file:
            yield _DECOMPRESSORS[self.compression](file) if self.compression else file

    @contextmanager
    def random_access(self) -> Iterator[IO[bytes]]:
        """The bytes, decompressed, as a file in which a reader may jump: a copy on disk where the place has no such."""
        if not self.compression and self.n_bytes():
            with self.stored() as file:
                yield file
            return
        with self.content() as source, tempfile.TemporaryFile(prefix="licet-list-") as copy:
            while block := source.read(_BLOCK):
                copy.write(block)
            copy.seek(0)
            yield copy


def expand(location: str, format: ListFormat) -> list[Place]:
    """The files that an fsspec URL, path, folder or glob names, sorted.

    Of a folder: all files below it that are called like lists of the format; names that begin with `.` or `_` are
    left out, as Spark does. Raises OSError when the place cannot be listed.
    """
    fs, path = fsspec.core.url_to_fs(location)
    web = "http" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    if (not web or path.endswith("/")) and fs.isdir(path):
        found = [name for name in fs.find(path) if _is_list(name, path, format)]
    elif fs.exists(path):
        found = [path]
    elif any(c in path for c in ("*[" if web else "*?[")):
        found = [name for name in fs.glob(path) if not fs.isdir(name)] if not web else fs.glob(path)
    else:
        found = []
    return [Place(fs, name) for name in sorted(found)]


def _is_list(name: str, folder: str, format: ListFormat) -> bool:
    below = PurePosixPath(name.removeprefix(folder.rstrip("/")).lstrip("/"))
    if any(part.startswith((".", "_")) for part in below.parts):
        return False
    last = below.name.lower()
    for compression in _DECOMPRESSORS:
        last = last.removesuffix(compression)
    return last.endswith(_EXTENSIONS[format])
