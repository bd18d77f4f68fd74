"""The base model's photos, through licet's own path: served, ingested, published, and read back from the manifest.

    manifest = ingest_photos(work)          build the data: every photo whose licence allows it
    load_photos(manifest)                   what the training reads
    keep_record(manifest, out)              manifest, pages and indexes beside the weights, without the photos

So the model's data have a manifest like anybody's, and its card can be checked against it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from examples.base.pixels import SHORT_SIDE_PX, TrainingPhoto
from examples.demo.lists import files_to_serve, write_sources
from examples.photos.serve import PhotoServer
from examples.photos.table import PHOTOS
from licet.manifest import Manifest, read_manifest
from licet.records import Sample
from licet.selection import Where, select
from lightning_modules.data.stream import Part, Rows, decode_image

FORMAT = "parquet"
PURPOSE = "commercial-training"


def ingest_photos(work: Path) -> Path:
    """Build the data below `work` and return the manifest's path. A manifest that is there is taken as it is."""
    manifest = work / "manifest.json"
    if not manifest.exists():
        with PhotoServer(files_to_serve(), work / "requests.jsonl") as server:
            source = next(s for s in write_sources(work / "sources", server.url) if s.stem == "photos")
            _licet("ingest-images", "--sources", f"[{source}]", "--output", work, "--formats", f"[{FORMAT}]",
                   "--policy.purpose", PURPOSE, "--plan", "new", "--image.size_px", SHORT_SIDE_PX,
                   "--image.resize", "keep_ratio", "--image.format", "png", "--image.decoding", "full",
                   "--fetch.allow_networks", "[127.0.0.1/32]")  # fmt: skip
        _licet("publish", "--catalog", work / "catalog", "--manifest", manifest, "--policy.purpose", PURPOSE)
    return manifest


def load_photos(path: Path) -> list[TrainingPhoto]:
    """Every live photo of a manifest, in the table's order; pixels are (H, W, 3) uint8 RGB, short side SHORT_SIDE_PX.

    A manifest's own order follows from the URLs, and so from the port that the photos were served at.
    """
    manifest = read_manifest(path)
    rows = Rows([Part(manifest, select(manifest, Where()))], FORMAT)
    place = {photo.key: i for i, photo in enumerate(PHOTOS)}
    return sorted((_photo(rows[i]) for i in range(len(rows))), key=lambda photo: place[photo.key])


def _photo(sample: Sample) -> TrainingPhoto:
    return TrainingPhoto(
        key=Path(sample.source_url).stem,
        class_prompt=sample.caption,
        pixels=np.asarray(decode_image(sample)),
        licence=sample.licence,
        creator=sample.creator,
        credit=sample.attribution,
        source_page=sample.source_page,
    )


def keep_record(path: Path, out: Path) -> Manifest:
    """Copy a manifest's root, pages and indexes to `out`: who made what on which terms, but not the photos."""
    manifest = read_manifest(path)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    copied = [manifest.path, *(manifest.folder / page["path"] for page in manifest.pages)]
    for entry in manifest.entries():
        copied += [Path(manifest.resolve(file.index_path)) for file in entry.files.values()]
    for file in copied:
        target = out / file.relative_to(manifest.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return manifest


def _licet(*arguments: object) -> None:
    subprocess.run([str(Path(sys.executable).with_name("licet")), *(str(a) for a in arguments)], check=True)
