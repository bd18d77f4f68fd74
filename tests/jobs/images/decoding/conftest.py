"""Files in every format and mode, made from one real photo."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data as photos


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    return Image.fromarray(photos.chelsea())


@pytest.fixture(scope="session")
def here() -> Iterator[str]:
    """This folder on the path, for stand-in decoders that other processes import."""
    folder = str(Path(__file__).parent)
    sys.path.append(folder)
    yield folder
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def saved() -> Any:
    """(image, format, **options) -> bytes."""

    def save(image: Image.Image, format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return save


@pytest.fixture(scope="session")
def png() -> Any:
    """(width, height, bits, colour type, rows, chunks) -> a PNG file, chunk by chunk."""

    def make(width: int, height: int, bits: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
        parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )

    return make
