"""Real samples for the tests of the contract (JPEG, PNG and WebP by Pillow, and text), and shards of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from licet.manifest import ShardEntry, ShardFile
from licet.records import PayloadFormat, Sample, row_id_of
from licet.shards import EXTENSIONS, ShardFormat, open_writer
from licet.shards.index import ShardIndex, content_digest, content_hash, file_sha256, index_path, total_by

_PILLOW_NAME = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_CAPTIONS = ("a photo of a cat", "Ein Bär im Schnee", "一只猫在睡觉", "قطة نائمة 🐈‍⬛", "")
_LICENCES = ("CC-BY-4.0", "CC0-1.0", "CC-BY-SA-4.0 OR GFDL-1.3-or-later")


def _image(number: int, payload_format: str, size_px: int) -> bytes:
    """An encoded picture of noise over a gradient, another one for each number."""
    noise = np.random.default_rng(number).integers(0, 64, (size_px, size_px, 3))
    ramp = np.linspace(0, 191, size_px)[:, None, None]
    buffer = io.BytesIO()
    Image.fromarray((noise + ramp).astype(np.uint8)).save(buffer, _PILLOW_NAME[payload_format])
    return buffer.getvalue()


def make_sample(
    number: int, payload_format: PayloadFormat = "jpg", payload: bytes | None = None, size_px: int = 32
) -> Sample:
    """The `number`-th sample: its fields differ from those of every other number."""
    is_text = payload_format == "txt"
    if payload is None:
        payload = f"Text {number}: {_CAPTIONS[number % 5]}".encode() if is_text else b""
        payload = payload or _image(number, payload_format, size_px)
    url = f"http://photos.example/{number}.{payload_format}"
    side_px = 0 if is_text else size_px
    return Sample(
        key=row_id_of("photos", url, 0),
        payload=payload,
        payload_format=payload_format,
        caption=_CAPTIONS[number % len(_CAPTIONS)],
        width=side_px,
        height=side_px,
        original_width=side_px * 4,
        original_height=side_px * 3,
        sha256=hashlib.sha256(payload).hexdigest(),
        phash="" if is_text else f"{number:016x}",
        source_id="photos" if number % 2 else "archive",
        source_url=url,
        source_page=f"http://photos.example/page/{number}",
        licence=_LICENCES[number % len(_LICENCES)],
        licence_url="http://photos.example/licence",
        creator="Zoë Ångström",
        attribution=f"Photo {number} by Zoë Ångström",
        language=("en", "de", "zh", "ar", "und")[number % 5],
        rights='{"robots.txt": "allowed"}',
        decision="licence-with-obligations",
    )


@pytest.fixture
def sample_of() -> Callable[..., Sample]:
    """`make_sample`, for tests that need a sample of their own."""
    return make_sample


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Twelve samples: JPEG, PNG, WebP and text in turn, captions in four scripts."""
    formats: tuple[PayloadFormat, ...] = ("jpg", "png", "webp", "txt")
    return [make_sample(number, formats[number % 4]) for number in range(12)]


@pytest.fixture
def entry_of() -> Callable[..., ShardEntry]:
    """`make_entry`, for tests that need a shard on disk and its manifest entry."""
    return make_entry


def make_entry(
    folder: Path, unit_id: str, samples: Sequence[Sample], formats: Sequence[ShardFormat] = ("tfrecord",)
) -> ShardEntry:
    """Write the samples as one unit's shard in each format below `folder`, and describe it with relative paths."""
    files = {}
    for format in formats:
        path = folder / "shards" / unit_id / f"a{EXTENSIONS[format]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_writer(format, str(path)) as writer:
            for sample in samples:
                writer.add(sample)
        index = Path(index_path(str(path)))
        files[format] = ShardFile(
            path=str(path.relative_to(folder)),
            sha256=file_sha256(str(path)),
            n_bytes=path.stat().st_size,
            index_path=str(index.relative_to(folder)),
            index_sha256=file_sha256(str(index)),
        )
    indexes = [ShardIndex.open(str(index))]
    return ShardEntry(
        unit_id=unit_id,
        rows=len(samples),
        live_rows=len(samples),
        content=content_hash(content_digest(sample) for sample in samples),
        licences=total_by(indexes, "licence"),
        languages=total_by(indexes, "language"),
        sources=total_by(indexes, "source_id"),
        files=files,
    )
