"""An image file of unknown origin to what a shard stores of it. Composes decoding with everything in this folder.

    transform(data, job, options) -> what is stored, or why not
    worker(spec)                     the same with ImageOptions as a dict, for a process of decoding/isolation.py

Pure: the same bytes, job and options give the same answer in any process, on any engine. It is meant to run in a
process that may die (jobs/images/decoding/isolation.py), so it takes and gives only what msgpack can carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2

from jobs.images.decoding import Header, Limits, Refused, decode, read_header
from jobs.images.options import ImageOptions, Interpolation
from jobs.images.pixels.blur import blur, parse_boxes
from jobs.images.pixels.encode import check_sides, encode
from jobs.images.pixels.exif import exif_json
from jobs.images.pixels.geometry import Geometry, Size, geometry
from jobs.images.pixels.originals import may_be_kept
from jobs.images.pixels.phash import phash
from jobs.images.pixels.resize import framed, to_size


def worker(spec: Mapping[str, Any]) -> Callable[[bytes, Mapping[str, str]], dict[str, Any]]:
    """`transform` with the options that `spec` holds (`asdict` of them): what a decoding process is started with."""
    options = ImageOptions(**spec)
    return lambda data, job: transform(data, job, options)


def transform(data: bytes, job: Mapping[str, str], options: ImageOptions) -> dict[str, Any]:
    """Decode, blur, resize and encode one image.

    `job`: {"boxes": JSON list of [left, top, right, bottom], fractions of the upright image}.
    Returns {"payload", "payload_format", "width", "height", "original_width", "original_height", "phash", "exif"}, or
    {"reason", "detail"} with a key of this folder's or decoding's `REASONS`. Sizes are pixels, upright. Raises
    `MemoryError` where the process may not have more.
    """
    try:
        return _transformed(data, job, options)
    except Refused as refused:
        return {"reason": refused.reason, "detail": refused.detail}
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise MemoryError(str(error)) from error


def _transformed(data: bytes, job: Mapping[str, str], options: ImageOptions) -> dict[str, Any]:
    boxes = parse_boxes(job.get("boxes", "[]"))
    limits = Limits(options.max_pixels, options.max_side_px, options.max_frames)
    header = read_header(data)
    header.check(limits)
    (width, height), place = header.upright_size, placed(header, options)
    kept = options.reencode == "if_changed" and not boxes and place.is_identity(width, height)
    kept = kept and may_be_kept(data, header, options.format, options.keep_gps)

    pixels = decode(data, limits, _target(place, width, height, options), options.background_rgb)
    seen = blur(pixels.rgb, boxes, options.blur_margin) if boxes else pixels.rgb
    divisor = _divisor((width, height), seen.shape)
    left, top, right, bottom = place.box
    part = (left / divisor, top / divisor, right / divisor, bottom / divisor)
    filled = to_size(seen, part, place.filled, _interpolation(place, options), exact=options.decoding == "full")
    return {
        "payload": data if kept else encode(framed(filled, place.stored, options.border_rgb), options),
        "payload_format": options.format,
        "width": place.stored[0],
        "height": place.stored[1],
        "original_width": pixels.original_width,
        "original_height": pixels.original_height,
        # Of the whole and without the boxes' blur: copies of one photo are found whatever a list wants hidden.
        "phash": phash(pixels.rgb),
        "exif": exif_json(pixels.exif, options.keep_gps) if options.keep_exif else "{}",
    }


def placed(header: Header, options: ImageOptions) -> Geometry:
    """Where the image goes, from its header alone. Raises `Refused` for what was not asked for."""
    width, height = header.upright_size
    short, long = min(width, height), max(width, height)
    size = f"{width} x {height}"
    if short < options.min_size_px:
        raise Refused("too-small", f"{size}, the short side must have {options.min_size_px}")
    if 0 < options.max_area_px < width * height:
        raise Refused("too-large-area", f"{size}, more than {options.max_area_px} in all")
    if 0 < options.max_aspect_ratio * short < long:
        raise Refused("aspect-ratio", f"{size}, more than {options.max_aspect_ratio:g} to 1")
    place = geometry(width, height, options)
    if place.filled[0] * place.filled[1] > options.max_pixels:
        raise Refused("aspect-ratio", f"{size} would grow to {place.filled[0]} x {place.filled[1]}")
    check_sides(place.stored, options.format)
    return place


def _divisor(original: Size, decoded: tuple[int, ...]) -> int:
    """By what scaled decoding has divided both sides: a decoded pixel is so many of the original's."""
    return next(n for n in (1, 2, 4, 8) if (-(-original[1] // n), -(-original[0] // n)) == decoded[:2])


def _interpolation(place: Geometry, options: ImageOptions) -> Interpolation:
    """Making more pixels of a part than it has is upscaling."""
    left, top, right, bottom = place.box
    larger = place.filled[0] * place.filled[1] > (right - left) * (bottom - top)
    return options.upscale_interpolation if larger else options.downscale_interpolation


def _target(place: Geometry, width: int, height: int, options: ImageOptions) -> Size | None:
    """The size that a decoder may take into account; None for the whole picture."""
    whole = options.decoding == "full" or options.downscale_interpolation == "nearest"
    return None if whole else place.whole(width, height)
