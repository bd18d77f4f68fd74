"""Files at URLs, on a real S3-compatible server and on fsspec's memory: put, checked, fetched once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest

from licet import storage
from licet.errors import DamagedError, MissingExtraError, PlatformError, UsageError
from licet.manifest import Manifest, ShardEntry, put_manifest, read_manifest, verify_manifest, write_manifest
from licet.policy import Purpose
from licet.records import Sample
from licet.shards import FORMATS, ShardFormat, open_reader, open_writer
from licet.shards.fetched import local_shard
from licet.shards.index import file_sha256, index_path


@pytest.fixture(params=["s3", "memory"])
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    """A URL with nothing below it."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    yield "memory://licet-tests/x"
    fsspec.filesystem("memory").store.clear()


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_what_was_put_comes_back(root: str, tmp_path: Path) -> None:
    for n_bytes in (0, 3, 6 << 20):
        data = os.urandom(n_bytes)
        url = f"{root}/a/{n_bytes}.bin"
        storage.put(written(tmp_path / "a", data), url)
        storage.fetch(url, str(tmp_path / "new" / "b"), hashlib.sha256(data).hexdigest())
        assert (tmp_path / "new" / "b").read_bytes() == storage.read_bytes(url) == data
    storage.put_bytes(b"small", f"{root}/small")
    with storage.open_file(f"{root}/small") as file:
        assert file.read() == b"small"
    assert storage.names_below(root) == ["a/0.bin", "a/3.bin", f"a/{6 << 20}.bin", "small"]
    assert storage.names_below(f"{root}/nothing") == []
    storage.remove([f"{root}/a/0.bin", f"{root}/a/gone", f"{root}/small"])
    assert storage.names_below(root) == ["a/3.bin", f"a/{6 << 20}.bin"]


def test_a_copy_is_fetched_once_and_never_half(root: str, tmp_path: Path) -> None:
    url, cache = f"{root}/a.bin", tmp_path / "cache"
    storage.put(written(tmp_path / "a", b"some bytes"), url)
    sha256 = hashlib.sha256(b"some bytes").hexdigest()
    first = storage.local_copy(url, cache, sha256)
    storage.remove([url])
    assert storage.local_copy(url, cache, sha256) == first
    assert Path(first).read_bytes() == b"some bytes"
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["a.bin"]
    with pytest.raises(FileNotFoundError):
        storage.local_copy(url, tmp_path / "another")


def test_other_bytes_than_the_hash_says_never_reach_the_cache(root: str, tmp_path: Path) -> None:
    url = f"{root}/a.bin"
    storage.put(written(tmp_path / "a", b"altered"), url)
    with pytest.raises(DamagedError, match=r"a\.bin was altered"):
        storage.local_copy(url, tmp_path / "cache", hashlib.sha256(b"whole").hexdigest())
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_local_path_is_its_own_copy(tmp_path: Path) -> None:
    assert storage.local_copy(str(tmp_path / "a")) == str(tmp_path / "a")
    assert storage.join("s3://b/x/", "y/z") == "s3://b/x/y/z"
    assert storage.join("/out", "s3://b/x") == "s3://b/x"
    assert storage.join("/out", "y") == "/out/y"


def test_a_store_that_keeps_other_bytes_is_found_out(tmp_path: Path) -> None:
    """A store that flips a bit of what it is given first."""

    class Rotten(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
        protocol = "rotten"
        store: ClassVar[dict[str, Any]] = {}
        puts = 0

        def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
            data = Path(lpath).read_bytes()
            Rotten.puts += 1
            self.pipe_file(rpath, data if Rotten.puts > 1 else bytes([data[0] ^ 1]) + data[1:])

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("rotten://").strip("/")

    fsspec.register_implementation("rotten", Rotten, clobber=True)
    storage.put(written(tmp_path / "a", b"some bytes"), "rotten://x/a")
    assert Rotten.puts == 2
    assert storage.read_bytes("rotten://x/a") == b"some bytes"


def test_a_bucket_that_is_not_there_is_named_at_once(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"s3://no-such-bucket/a.*bucket"):
        storage.put(written(tmp_path / "a", b"x"), "s3://no-such-bucket/a")


def test_a_store_that_does_not_answer_is_asked_again(
    s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at first; when the first try has failed, the server is started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "test", "secret": "test"}
    monkeypatch.setitem(fsspec.config.conf, "s3", there)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    with contextlib.ExitStack() as started:

        class Start(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "trying again" in record.getMessage() and not is_started:
                    started.enter_context(s3_server(port))
                    fsspec.filesystem("s3").mkdir("late")
                    is_started.append(True)

        is_started: list[bool] = []
        log, handler = logging.getLogger("licet.storage"), Start()
        log.addHandler(handler)
        try:
            storage.put(written(tmp_path / "a", b"some bytes"), "s3://late/a.bin")
        finally:
            log.removeHandler(handler)
        assert is_started
        assert storage.read_bytes("s3://late/a.bin") == b"some bytes"


def test_a_library_that_is_absent_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"gcsfs is not installed: run `pip install 'licet\[gs\]'`"):
        storage.read_bytes("gs://bucket/a")
    with pytest.raises(PlatformError, match="names no store"):
        storage.read_bytes("nonsense://bucket/a")


@pytest.mark.parametrize("format", FORMATS)
def test_a_shard_at_a_url_is_read_as_a_local_one(
    format: ShardFormat, bucket: str, tmp_path: Path, samples: list[Sample]
) -> None:
    path = tmp_path / f"a.{format}"
    with open_writer(format, str(path)) as writer:
        for sample in samples:
            writer.add(sample)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            storage.put(str(file), f"{bucket}/{file.relative_to(tmp_path).as_posix()}")
    url, sha256 = f"{bucket}/{path.name}", file_sha256(str(path))
    local = local_shard(format, url, tmp_path / "cache", sha256)
    storage.fetch(index_path(url), index_path(local))
    reader = open_reader(format, local, expected_sha256=sha256)
    assert [reader[position] for position in range(len(reader))] == samples
    reader.close()


def test_a_manifest_is_read_from_a_url_with_its_shards_beside_it(
    bucket: str, tmp_path: Path, samples: list[Sample], entry_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "cache"))
    here = tmp_path / "here"
    entries = [entry_of(here, unit_id, samples, FORMATS) for unit_id in ("u0", "u1")]
    written_here = write_manifest(here / "manifest.json", entries, Purpose.RESEARCH, "policy")
    with pytest.raises(UsageError, match="of this machine"):
        put_manifest(written_here, f"{bucket}/x/manifest.json")
    with pytest.raises(UsageError, match="there is no manifest at s3"):
        read_manifest(f"{bucket}/x/manifest.json")
    for file in here.rglob("*"):
        if file.is_file():
            storage.put(str(file), f"{bucket}/x/{file.relative_to(here).as_posix()}")
    manifest = read_manifest(f"{bucket}/x/manifest.json")
    assert manifest.identity == written_here.identity
    verify_manifest(manifest)
    put_manifest(
        write_manifest(tmp_path / "m.json", [_at_url(e, manifest) for e in entries], Purpose.RESEARCH, "policy"),
        f"{bucket}/elsewhere/m.json",
    )
    verify_manifest(read_manifest(f"{bucket}/elsewhere/m.json"))


def _at_url(entry: ShardEntry, manifest: Manifest) -> ShardEntry:
    files = {
        format: replace(file, path=manifest.locate(file.path), index_path=manifest.locate(file.index_path))
        for format, file in entry.files.items()
    }
    return replace(entry, files=files)
