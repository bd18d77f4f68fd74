"""What the demo serves and what it lists: photos of this machine's packages, as four sources with their rights.

chelsea             views of the subject, a cat: what DreamBooth learns
chelsea-held-out    other views of the same cat: never trained on, what similarity is measured against
coffee              views of another subject: the control
photos              every photo of the table, those that policy must refuse among them, a dead link, a page that
                    is not an image, and a second copy of one photo
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from examples.photos.table import PHOTOS, Photo, photo_bytes
from examples.photos.views import View, coffee_views, subject_views

CHECKED = "2026-11-21"
LISTED = ("url", "caption", "licence", "licence_url", "creator", "attribution", "source_page")  # columns of the lists
NOT_AN_IMAGE = b"<!doctype html><title>Moved</title><p>This photo has moved.</p>\n"


def files_to_serve() -> dict[str, bytes]:
    """Path on the server -> bytes. The dead link is the path that is not here."""
    by_key = {photo.key: photo for photo in PHOTOS}
    files = {_path(photo): photo_bytes(photo) for photo in PHOTOS}
    files["/copies/flower-again.jpg"] = photo_bytes(by_key["flower"])
    files["/photos/moved.jpg"] = NOT_AN_IMAGE
    for view in [*subject_views(), *coffee_views()]:
        files[_view_path(view)] = view.data
    return files


def write_sources(folder: Path, server_url: str) -> list[Path]:
    """Write one list and one source file each; return the source files."""
    by_key = {photo.key: photo for photo in PHOTOS}
    cat, cup, flower = by_key["chelsea"], by_key["coffee"], by_key["flower"]
    photos = [_row(server_url + _path(photo), photo) for photo in PHOTOS]
    photos.append(_row(server_url + "/copies/flower-again.jpg", flower))
    photos.append(_row(server_url + "/photos/gone.jpg", cup))
    photos.append(_row(server_url + "/photos/moved.jpg", cup))
    rows = {
        "chelsea": [_row(server_url + _view_path(v), cat, v.caption) for v in subject_views() if not v.held_out],
        "chelsea-held-out": [_row(server_url + _view_path(v), cat, v.caption) for v in subject_views() if v.held_out],
        "coffee": [_row(server_url + _view_path(v), cup, v.caption) for v in coffee_views()],
        "photos": photos,
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_source(folder, source_id, source_rows) for source_id, source_rows in rows.items()]


def _path(photo: Photo) -> str:
    return f"/photos/{photo.key}.{photo.file.rsplit('.', 1)[-1]}"


def _view_path(view: View) -> str:
    return f"/views/{view.name}.png"


def _row(url: str, photo: Photo, caption: str = "") -> dict[str, str]:
    return {
        "url": url,
        "caption": caption or photo.caption,
        "licence": photo.licence,
        "licence_url": photo.licence_url,
        "creator": photo.creator,
        "attribution": photo.credit,
        "source_page": photo.source_page,
    }


def _write_source(folder: Path, source_id: str, rows: Iterable[dict[str, str]]) -> Path:
    listing = folder / f"{source_id}.jsonl"
    listing.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    source = {
        "id": source_id,
        "title": f"Photos that scikit-image and scikit-learn ship: {source_id}",
        "kind": "images",
        "location": listing.name,
        "format": "jsonl",
        "columns": {name: name for name in LISTED},
        "languages": ["en"],
        "licence": "NOASSERTION",
        "licence_evidence": {
            "url": "https://scikit-image.org/docs/stable/api/skimage.data.html",
            "checked_by": "the maintainers of licet",
            "checked_on": CHECKED,
        },
        "custodian": {"name": "scikit-image and scikit-learn developers", "type": "open-source project"},
        "provenance": {"how": "shipped inside Python packages", "when": CHECKED, "where": "skimage, sklearn"},
        "personal_data": "incidental",
    }  # fmt: skip
    path = folder / f"{source_id}.yaml"
    path.write_text(yaml.safe_dump(source, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
