"""The same behaviour of all formats, on real files."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from licet.errors import MissingExtraError, ShardDamagedError, UsageError
from licet.records import Sample
from licet.shards import EXTENSIONS, FORMATS, ShardFormat, open_reader, open_writer
from licet.shards.index import ShardIndex, content_digest, content_hash, file_sha256, index_path

N_FLIPS = 200

each_format = pytest.mark.parametrize("format", FORMATS)


def write(format: ShardFormat, folder: Path, samples: Sequence[Sample]) -> str:
    path = str(folder / f"shard{EXTENSIONS[format]}")
    with open_writer(format, path) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def read(format: ShardFormat, path: str, expected_sha256: str | None = None) -> list[Sample]:
    reader = open_reader(format, path, expected_sha256=expected_sha256)
    try:
        return [reader[position] for position in range(len(reader))]
    finally:
        reader.close()


@each_format
def test_samples_come_back_as_they_were_written(format: ShardFormat, tmp_path: Path, samples: list[Sample]) -> None:
    assert read(format, write(format, tmp_path, samples)) == samples


@each_format
def test_any_record_is_read_in_any_order(format: ShardFormat, tmp_path: Path, sample_of: Callable[..., Sample]) -> None:
    samples = [sample_of(number, "txt") for number in range(150)]  # more than two row groups of Parquet
    reader = open_reader(format, write(format, tmp_path, samples))
    order = random.Random(0).sample(range(150), 150)
    assert [reader[position] for position in order] == [samples[position] for position in order]
    for outside in (150, -1):
        with pytest.raises(IndexError):
            reader[outside]
    reader.close()


@each_format
def test_the_same_samples_give_the_same_bytes(format: ShardFormat, tmp_path: Path, samples: list[Sample]) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    paths = []
    for folder in folders:
        folder.mkdir()
        paths.append(write(format, folder, samples))
    assert file_sha256(paths[0]) == file_sha256(paths[1])
    assert file_sha256(index_path(paths[0])) == file_sha256(index_path(paths[1]))


def test_content_digests_do_not_depend_on_the_format(tmp_path: Path, samples: list[Sample]) -> None:
    digests = {
        format: ShardIndex.open(index_path(write(format, tmp_path, samples))).table.column("content").to_pylist()
        for format in FORMATS
    }
    assert all(found == [content_digest(sample) for sample in samples] for found in digests.values())
    assert len({content_hash(found) for found in digests.values()}) == 1


@each_format
def test_a_flipped_byte_is_named_or_changes_no_sample(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    path = write(format, tmp_path, samples)
    sha256, good = file_sha256(path), Path(path).read_bytes()
    index = ShardIndex.open(index_path(path))
    rng = random.Random(format)
    n_found = 0
    for _ in range(N_FLIPS):
        place, flip = rng.randrange(len(good)), rng.randrange(1, 256)
        Path(path).write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
        try:
            reader = open_reader(format, path, index, expected_sha256=sha256)
        except ShardDamagedError as error:
            assert error.shard == path
            n_found += 1
            continue
        for position, sample in enumerate(samples):
            try:
                assert reader[position] == sample
            except ShardDamagedError as error:
                assert (error.shard, error.record) == (path, f"record {position} (key {sample.key})")
                n_found += 1
        reader.close()
    assert n_found > N_FLIPS / 2


@each_format
def test_a_flipped_payload_byte_names_its_record_and_no_other(
    format: ShardFormat, tmp_path: Path, sample_of: Callable[..., Sample]
) -> None:
    samples = [sample_of(number, payload=random.Random(number).randbytes(30_000)) for number in range(3)]
    path = write(format, tmp_path, samples)
    target = Path(path)
    if format == "files":
        target = tmp_path / f"{target.name}.d" / f"{samples[1].key}.jpg"
    good = target.read_bytes()
    place = good.index(samples[1].payload[10_000:10_100])
    target.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    reader = open_reader(format, path)
    with pytest.raises(ShardDamagedError, match=rf"shard.*, record 1 \(key {samples[1].key}\)") as caught:
        reader[1]
    assert caught.value.exit_code == 1
    if format != "parquet":  # a row group of Parquet is one page per column: it is lost as a whole
        assert [reader[0], reader[2]] == [samples[0], samples[2]]
    reader.close()


@each_format
def test_a_shard_in_another_ones_place_is_named(
    format: ShardFormat, tmp_path: Path, sample_of: Callable[..., Sample]
) -> None:
    """Whole, of the same shape, with checksums of its own: and yet not what was written."""
    paths = []
    for name, caption in (("a", "a photo of a cat"), ("b", "a photo of a dog")):
        (tmp_path / name).mkdir()
        paths.append(
            write(format, tmp_path / name, [replace(sample_of(number), caption=caption) for number in range(3)])
        )
    index = ShardIndex.open(index_path(paths[0]))
    reader = open_reader(format, paths[1], index)
    for position in range(3):
        with pytest.raises(ShardDamagedError, match=f"record {position} "):
            reader[position]
    reader.close()


@each_format
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_shard_is_named(format: ShardFormat, kept: float, tmp_path: Path, samples: list[Sample]) -> None:
    path = write(format, tmp_path, samples)
    sha256 = file_sha256(path)
    os.truncate(path, int(os.path.getsize(path) * kept))
    with pytest.raises(ShardDamagedError) as caught:
        read(format, path, sha256)
    assert caught.value.shard == path


@each_format
def test_a_missing_shard_or_index_is_named(format: ShardFormat, tmp_path: Path, samples: list[Sample]) -> None:
    path = write(format, tmp_path, samples[:1])
    index = ShardIndex.open(index_path(path))
    os.unlink(index_path(path))
    with pytest.raises(ShardDamagedError, match="index"):
        open_reader(format, path)
    os.unlink(path)
    with pytest.raises(ShardDamagedError, match="No such file"):
        open_reader(format, path, index)
    with pytest.raises(ShardDamagedError, match="No such file"):
        open_reader(format, path, index, expected_sha256="0" * 64)


@each_format
def test_a_flipped_byte_of_the_index_never_gives_another_sample(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    path = write(format, tmp_path, samples)
    good = Path(index_path(path)).read_bytes()
    rng = random.Random(format)
    n_found = 0
    for _ in range(N_FLIPS):
        place, flip = rng.randrange(len(good)), rng.randrange(1, 256)
        Path(index_path(path)).write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
        try:
            assert read(format, path) == samples
        except ShardDamagedError:
            n_found += 1
    assert n_found


@each_format
def test_an_empty_shard_is_a_shard(format: ShardFormat, tmp_path: Path) -> None:
    path = write(format, tmp_path, [])
    reader = open_reader(format, path)
    assert len(reader) == 0
    with pytest.raises(IndexError):
        reader[0]
    reader.close()


@each_format
def test_a_large_payload_comes_back(format: ShardFormat, tmp_path: Path, sample_of: Callable[..., Sample]) -> None:
    large = sample_of(1, payload=random.Random(0).randbytes(5_000_000))
    samples = [sample_of(0), large, sample_of(2)]
    assert read(format, write(format, tmp_path, samples)) == samples


@each_format
def test_a_shard_larger_than_one_transaction_or_row_group_comes_back(
    format: ShardFormat, tmp_path: Path, sample_of: Callable[..., Sample]
) -> None:
    payload = random.Random(0).randbytes(4_000_000)
    samples = [sample_of(number, payload=payload) for number in range(12)]
    assert read(format, write(format, tmp_path, samples)) == samples


@each_format
def test_a_writer_left_by_an_exception_leaves_no_index(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    path = str(tmp_path / f"shard{EXTENSIONS[format]}")
    n_open = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyError), open_writer(format, path) as writer:
        writer.add(samples[0])
        raise KeyError("stop")
    assert not os.path.exists(index_path(path))
    assert len(os.listdir("/proc/self/fd")) == n_open
    with pytest.raises(ValueError, match="closed"):
        writer.close()


@each_format
@pytest.mark.parametrize("n_bytes", [1_000, 40_000])
def test_a_full_disk_is_an_os_error_and_leaves_no_index(format: ShardFormat, n_bytes: int, tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: the same calls fail, and it needs no file system."""
    path = str(tmp_path / f"shard{EXTENSIONS[format]}")
    script = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("samples", {str(Path(__file__).parents[1] / "conftest.py")!r})
samples = importlib.util.module_from_spec(spec); spec.loader.exec_module(samples)
from licet.shards import open_writer
try:
    writer = open_writer({format!r}, {path!r})
except OSError as error:
    sys.exit(0 if error.errno else "an OSError without a number")
try:
    for number in range(100):
        writer.add(samples.make_sample(number, payload=bytes([number]) * 400_000))
        writer.add(samples.make_sample(1000 + number))
except OSError as error:
    if not error.errno:
        sys.exit("an OSError without a number")
else:
    sys.exit("no error")
try:
    writer.close()
except ValueError:
    sys.exit(0)
sys.exit("a writer that had failed was closed as if whole")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(index_path(path))


@each_format
def test_a_writer_never_touches_a_file_that_exists(format: ShardFormat, tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"another attempt's")
    with pytest.raises(FileExistsError):
        open_writer(format, str(path))
    assert path.read_bytes() == b"another attempt's"


@each_format
def test_a_sample_that_no_shard_may_hold_is_refused_and_the_shard_goes_on(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    path = str(tmp_path / f"shard{EXTENSIONS[format]}")
    with open_writer(format, path) as writer:
        writer.add(samples[0])
        for key in ("a.b", "a/b", "..", "/a", "a\\b", "a\n", "a\0", "", "x" * 91, samples[0].key):
            with pytest.raises(UsageError, match="key"):
                writer.add(replace(samples[1], key=key))
        with pytest.raises(UsageError, match="payload format"):
            writer.add(replace(samples[1], payload_format="gif"))  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            writer.add(replace(samples[1], caption="half of a pair: \ud83d"))
        writer.add(samples[2])
    assert read(format, path) == [samples[0], samples[2]]


@each_format
def test_closing_twice_gives_the_same_index(format: ShardFormat, tmp_path: Path, samples: list[Sample]) -> None:
    writer = open_writer(format, str(tmp_path / "shard"))
    writer.add(samples[0])
    assert writer.close() is writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.add(samples[1])


@each_format
def test_two_readers_and_a_forked_child_read_at_once(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    path = write(format, tmp_path, samples)
    first, second = open_reader(format, path), open_reader(format, path)
    assert first[0] == second[0] == samples[0]
    child = os.fork()
    if child == 0:
        right = False
        try:
            right = [first[i] for i in range(len(first))] == samples and second[1] == samples[1]
        finally:
            os._exit(0 if right else 1)
    assert [first[i] for i in range(len(first))] == samples
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    first.close()
    assert second[2] == samples[2]
    second.close()
    second.close()


def test_a_forked_child_keeps_no_lmdb_environment_of_its_parent(tmp_path: Path, samples: list[Sample]) -> None:
    path = write("lmdb", tmp_path, samples)

    def is_mapped() -> bool:
        return any(line.endswith(path) for line in Path("/proc/self/maps").read_text().splitlines())

    reader = open_reader("lmdb", path)
    child = os.fork()
    if child == 0:
        right = False
        try:
            right = not is_mapped() and reader[3] == samples[3] and is_mapped()
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_mapped()
    assert reader[4] == samples[4]
    second = open_reader("lmdb", path)
    reader.close()
    assert is_mapped()
    second.close()
    assert not is_mapped()


@each_format
def test_a_closed_reader_reads_no_more_and_is_not_damage(
    format: ShardFormat, tmp_path: Path, samples: list[Sample]
) -> None:
    n_open = len(os.listdir("/proc/self/fd"))
    reader = open_reader(format, write(format, tmp_path, samples))
    reader[0]
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == n_open
    with pytest.raises(RuntimeError, match="closed"):
        reader[0]


@pytest.mark.parametrize(("format", "module"), [("lmdb", "lmdb"), ("tfrecord", "google.protobuf")])
def test_an_absent_library_names_the_extra(format: ShardFormat, module: str) -> None:
    script = f"""
import sys
sys.modules[{module!r}] = None
from licet.shards import open_writer
try:
    open_writer({format!r}, "unused")
except Exception as error:
    sys.stdout.write(f"{{type(error).__name__}}: {{error}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(MissingExtraError.__name__)
    assert "pip install 'licet[" in done.stdout


def test_an_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'zip' is unknown: choose from tfrecord, lmdb"):
        open_writer("zip", str(tmp_path / "shard"))  # type: ignore[arg-type]


def test_writing_shards_imports_neither_torch_nor_pyspark() -> None:
    script = f"""
import importlib, sys
for format in {FORMATS!r}:
    importlib.import_module("licet.shards." + format)
sys.exit(any(name in sys.modules for name in ("torch", "pyspark")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
