"""Plain files: each payload under its own name in a folder, for people and for tools that know no shards.

    <shard>.d/<key>.jpg | .png | …     the payload
    <shard>.d/<key>.json               every other field of `Sample`, under the field's own name
    <shard>                            the listing: a line of JSON for each sample, with size and SHA-256 of both files

The listing is the shard's own file: what a manifest hashes. The index's offset, length and checksum cover a sample's
line, newline included, and the line's hashes cover the sample's files, so that the listing's hash vouches for all.
No key leaves the folder, whoever wrote the listing, and no link is followed out of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from licet.errors import ShardDamagedError
from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import crc32c, fsync_folder
from licet.shards.pread import FlatReader
from licet.shards.shard import KEY, PAYLOAD_FORMATS, Place, close_durably, create

RECORDS_COVER_STRUCTURE = True

_FIELDS = [name for name in SAMPLE_SCHEMA.names if name != "payload"]


class Member(NamedTuple):
    """A file that belongs to a shard beside the shard's own."""

    name: str
    """Its path from the folder in which the shard's own file lies, with slashes."""
    n_bytes: int
    sha256: str


class Writer:
    """See `licet.shards.shard.FormatWriter`."""

    def __init__(self, path: str) -> None:
        self._folder = folder_of(path)
        self._listing = create(path)
        self._offset = 0
        self._names: list[str] = []
        try:
            os.mkdir(self._folder)
        except OSError:
            self._listing.close()
            os.unlink(path)
            raise

    def append(self, sample: Sample, encoded: bytes) -> Place:
        fields = json.dumps({name: getattr(sample, name) for name in _FIELDS}, ensure_ascii=False, indent=1).encode()
        said = {"key": sample.key, "payload_format": sample.payload_format}
        said |= self._write(f"{sample.key}.{sample.payload_format}", "payload", sample.payload)
        said |= self._write(f"{sample.key}.json", "fields", fields)
        line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
        place = Place(self._offset, len(line), crc32c(line))
        self._listing.write(line)
        self._offset += len(line)
        return place

    def _write(self, name: str, what: str, data: bytes) -> dict[str, Any]:
        with create(os.path.join(self._folder, name)) as file:
            file.write(data)
        self._names.append(name)
        return {f"{what}_bytes": len(data), f"{what}_sha256": hashlib.sha256(data).hexdigest()}

    def finish(self) -> None:
        """All files are made durable here, at once: by then the kernel has written most of them."""
        for name in self._names:
            with open(os.path.join(self._folder, name), "rb+") as file:
                os.fsync(file.fileno())
        fsync_folder(self._folder)
        close_durably(self._listing)

    def abandon(self) -> None:
        self._listing.close()


def _sample(path: str, line: bytes) -> Sample:
    try:
        payload, fields = (_read(path, member) for member in _members_of(path, line))
    except OSError as error:
        raise ValueError(f"{error.filename or path}: {error.strerror or error}") from error
    return Sample(payload=payload, **json.loads(fields))


Reader = partial(FlatReader, sample_of=_sample)
"""See `licet.shards.ShardReader`."""


def _read(shard: str, member: Member) -> bytes:
    """A member's bytes. Raises ValueError when they are not those that the listing names, OSError."""
    path = os.path.join(os.path.dirname(shard), member.name)
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        if os.fstat(file.fileno()).st_size != member.n_bytes:  # before any allocation
            raise ValueError(f"{member.name} has not the {member.n_bytes} bytes that were written")
        data = file.read(member.n_bytes)
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise ValueError(f"the SHA-256 of {member.name} is not that of what was written")
    return data


def folder_of(path: str) -> str:
    """The folder of a listing's files."""
    return f"{path}.d"


def members(path: str) -> Iterator[Member]:
    """All files that a listing names, two for each sample. Raises `ShardDamagedError` for a line that is none."""
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            try:
                yield from _members_of(path, line)
            except (ValueError, TypeError, KeyError) as error:
                raise ShardDamagedError(path, f"line {number + 1}", str(error)) from error


def _members_of(path: str, line: bytes) -> tuple[Member, Member]:
    """Payload and fields of a line. Raises ValueError, TypeError or KeyError when it names no files of the folder."""
    said = json.loads(line)
    key, extension = said["key"], said["payload_format"]
    if not KEY.fullmatch(key) or extension not in PAYLOAD_FORMATS:
        raise ValueError(f"{key!r}.{extension!r} names no file of a shard")
    folder = os.path.basename(folder_of(path))
    return (
        Member(f"{folder}/{key}.{extension}", int(said["payload_bytes"]), said["payload_sha256"]),
        Member(f"{folder}/{key}.json", int(said["fields_bytes"]), said["fields_sha256"]),
    )
