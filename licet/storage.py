"""Files at URLs: put whole and checked, fetched once and checked. For any store that fsspec knows.

    put("a.tar", "s3://bucket/x/a.tar")                   uploaded, compared, tried again where the network failed
    local_copy("s3://bucket/x/a.tar", sha256="…")         a file of this machine: from the cache, or fetched into it

Nothing here renames, locks or overwrites on the store, for object stores have no rename: what writes gives each attempt
names of its own, and nobody reads a name before the catalog lists it. Credentials and endpoints come from where the
store's own library looks (such as AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, a machine's role), never from a flag. This
module knows bytes, not shards.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from licet.errors import DamagedError, MissingExtraError, PlatformError

Result = TypeVar("Result")

CACHE = "LICET_CACHE"
"""Environment variable: the folder for copies of what lies at URLs. The user's cache folder without it."""

_BLOCK = 1 << 20
_TRIES = 5
_FIRST_WAIT_S = 0.5
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Answers that will not change by asking again."""

_LIBRARY_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
"""What the stores' libraries raise beside OSError when the network or the store fails."""

_EXTRAS = {"s3fs": "s3", "gcsfs": "gs", "adlfs": "azure"}
_log = logging.getLogger(__name__)


def is_url(path: str) -> bool:
    """Whether a path names a store, and not a file that this machine opens."""
    return "://" in path


def join(base: str, path: str) -> str:
    """A path below a folder or a URL; what is absolute or a URL stays as it is."""
    if is_url(path) or os.path.isabs(path):
        return path
    return f"{base.rstrip('/')}/{path}" if is_url(base) else os.path.join(base, path)


def put(path: str, url: str) -> None:
    """Upload a file and compare size and content with what the store then has.

    Raises `PlatformError` when the store does not take it, `DamagedError` when it has other bytes.
    """

    def upload() -> None:
        store, name = _store(url)
        store.put_file(path, name)
        store.invalidate_cache()
        _compare(store, name, path, url)

    _persist(upload, url, "written")


def put_bytes(data: bytes, url: str) -> None:
    """Upload a small file, such as a manifest's root. Raises `PlatformError`."""

    def upload() -> None:
        store, name = _store(url)
        store.pipe_file(name, data)
        store.invalidate_cache()
        if store.cat_file(name) != data:
            raise DamagedError(f"{url} has other bytes than were written: run the same command again.")

    _persist(upload, url, "written")


def read_bytes(url: str) -> bytes:
    """All of a small file. Raises FileNotFoundError, `PlatformError`."""

    def download() -> bytes:
        store, name = _store(url)
        data: bytes = store.cat_file(name)
        return data

    return _persist(download, url, "read")


def fetch(url: str, path: str, sha256: str = "") -> None:
    """Download to a new local file, which appears whole and durable or not at all.

    Raises FileNotFoundError, `DamagedError` when the bytes are not those of `sha256`, `PlatformError`.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f".{uuid.uuid4().hex}.partial")

    def download() -> None:
        store, name = _store(url)
        store.get_file(name, partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        found = _digest(open_file(partial), "sha256") if sha256 else ""
        if found != sha256:
            raise DamagedError(f"{url} was altered: its SHA-256 is {found}, not {sha256}. Restore it.")

    try:
        _persist(download, url, "read")
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def local_copy(url: str, cache_folder: str | Path | None = None, sha256: str = "") -> str:
    """The path of a file of this machine with what lies at a URL; a local path is returned as it is.

    A copy is compared with `sha256` when it is fetched, and used again afterwards; without a hash the URL is taken to
    hold the same for ever, as a shard's does. The cache only grows: empty it when nothing reads from it.
    """
    if not is_url(url):
        return url
    name = sha256 or hashlib.sha256(url.encode()).hexdigest()
    path = os.path.join(cache_folder or default_cache(), name[:2], name, url.rstrip("/").rsplit("/", 1)[1])
    if not os.path.exists(path):
        fetch(url, path, sha256)
    return path


def default_cache() -> str:
    """The folder that LICET_CACHE names, or `licet` in the user's cache folder."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get(CACHE) or os.path.join(user, "licet")


def open_file(path: str) -> BinaryIO:
    """A local file or what lies at a URL, for reading a part of it. Raises OSError, `PlatformError`."""
    if not is_url(path):
        return open(path, "rb")

    def open_it() -> BinaryIO:
        store, name = _store(path)
        file: BinaryIO = store.open(name, "rb")
        return file

    return _persist(open_it, path, "read")


def names_below(url: str) -> list[str]:
    """Names of all files below a URL, from it, with slashes; empty when there is nothing."""

    def find() -> list[str]:
        store, name = _store(url)
        store.invalidate_cache()
        root = name.strip("/") + "/"
        return sorted(found.lstrip("/").removeprefix(root) for found in store.find(name))

    return _persist(find, url, "listed")


def remove(urls: list[str]) -> None:
    """Delete files of one store; one that is gone already is no error."""
    if not urls:
        return

    def delete() -> None:
        store, _ = _store(urls[0])
        store.invalidate_cache()
        store.rm([name for name in (store._strip_protocol(url) for url in urls) if store.exists(name)])

    _persist(delete, urls[0], "deleted")


def _store(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the file's name in it. Raises `MissingExtraError`."""
    try:
        store, name = fsspec.core.url_to_fs(url)
    except ImportError as error:
        library = next((known for known in _EXTRAS if known in str(error)), url.split("://")[0])
        raise MissingExtraError(library, _EXTRAS.get(library, "all")) from error
    except ValueError as error:
        raise PlatformError(f"{url} names no store that fsspec knows: {error}.") from error
    return store, name


def _compare(store: Any, name: str, path: str, url: str) -> None:
    """Raise `DamagedError` unless the store has the file's bytes. Stores that tell an MD5 need not send them back."""
    said = store.info(name)
    n_bytes = os.path.getsize(path)
    if said["size"] != n_bytes:
        raise DamagedError(f"{url} has {said['size']} bytes where {n_bytes} were written: run the same command again.")
    if _said_md5(said) == _digest(open_file(path), "md5"):
        return
    if _digest(store.open(name, "rb"), "sha256") != _digest(open_file(path), "sha256"):
        raise DamagedError(f"{url} has other bytes than were written: run the same command again.")


def _said_md5(said: dict[str, Any]) -> str:
    """The MD5 that a store tells, in hexadecimal: S3's ETag of a plain upload, Google's md5Hash; else empty.

    An ETag may be something else (a multipart upload, a key of the customer's own), so that only equality counts.
    """
    etag = str(said.get("ETag", "")).strip('"')
    return base64.b64decode(said["md5Hash"]).hex() if "md5Hash" in said else etag


def _digest(file: BinaryIO, algorithm: str) -> str:
    """The hash of an open file, in hexadecimal; it is closed."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _persist(action: Callable[[], Result], url: str, done: str) -> Result:
    """Do it, again after a growing wait with jitter where the failure may pass."""
    wait_s = _FIRST_WAIT_S
    for left in reversed(range(_TRIES)):
        try:
            return action()
        except FileNotFoundError:
            if done == "read":
                raise
            raise PlatformError(f"{url} cannot be {done}: there is no such bucket or folder. Make it first.") from None
        except _FINAL as error:
            raise PlatformError(f"{url} cannot be {done}: {error}. Check its permissions and credentials.") from error
        except _passing() as error:
            if isinstance(error, DamagedError) and left < _TRIES - 1:
                raise  # twice the wrong bytes: they lie there, or the store is broken
            if not left:
                raise PlatformError(f"{url} could not be {done} in {_TRIES} tries: {error}.") from error
            _log.warning("%s was not %s (%s); trying again", url, done, error)
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s *= 2
    raise AssertionError("the last try returns or raises")


def _passing() -> tuple[type[BaseException], ...]:
    """Errors after which it is tried again: the system's, and those of the libraries that are in use."""
    found = [getattr(sys.modules[module], name, None) for module, name in _LIBRARY_ERRORS if module in sys.modules]
    return (OSError, asyncio.TimeoutError, DamagedError, *(kind for kind in found if kind is not None))
