"""How near a WebDataset's images are to what a full decode and a Lanczos resize would have stored.

    mean_psnr(folder, files) -> dB        over the first images of every shard below `folder`

Works for licet's shards and img2dataset's: both keep the URL in each sample's JSON, and the URL's number says which
file was served.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

N_COMPARED = 300


def mean_psnr(folder: Path, files: Sequence[Path]) -> float:
    """Mean PSNR in dB of the stored images (8-bit RGB, squares) against their references."""
    values = []
    for (number, image), _ in zip(_stored(folder), range(N_COMPARED), strict=False):
        reference = _reference(files[number % len(files)], image.width)
        error = np.asarray(image, np.float64) - np.asarray(reference, np.float64)
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    return float(np.mean(values))


def _reference(path: Path, size_px: int) -> Image.Image:
    """Fully decoded, the middle square, Lanczos."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size_px, size_px), Image.Resampling.LANCZOS, (left, top, left + side, top + side))


def _stored(folder: Path) -> Iterator[tuple[int, Image.Image]]:
    """(number in the URL, image) of every sample."""
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            parts: dict[str, dict[str, bytes]] = {}
            for member in tar:
                stem, _, extension = member.name.rpartition(".")
                content = tar.extractfile(member)
                if content is not None:
                    parts.setdefault(stem, {})[extension] = content.read()
        for files in parts.values():
            said = json.loads(files["json"])
            url = said.get("source_url") or said["url"]
            found = re.search(r"/(\d+)\.jpg$", url)
            if found and "jpg" in files:
                yield int(found[1]), Image.open(io.BytesIO(files["jpg"])).convert("RGB")
