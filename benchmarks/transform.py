"""How fast and how exact the image transform is on one core, beside a full decode with OpenCV and area averaging.

    python -m benchmarks.transform [--size_px 256] [--rounds 5]

The images are photos from scikit-image and scikit-learn, continued by mirroring to 1 to 2 Mpx and saved as JPEG of
about 188 KB. Each is timed by the processor time of this process, the best of all rounds, the candidates in turn; PSNR
is of what is stored, after JPEG at quality 95, against a full decode with Pillow's Lanczos, the same part, not encoded.
The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data as photos
from sklearn.datasets import load_sample_images

from jobs.images.options import ImageOptions, ResizeMode
from jobs.images.pixels import transform

CANVASES = ((1280, 854), (1600, 1067), (900, 1350))
N_BYTES = 188_000
QUALITY = 95


def web_photos() -> list[bytes]:
    """18 JPEG files of 1.1 to 1.7 Mpx."""
    sources = [photos.astronaut(), photos.coffee(), photos.chelsea(), photos.rocket(), *load_sample_images().images]
    return [_jpeg(_continued(source, *canvas, 1 + i / 2)) for source in sources for i, canvas in enumerate(CANVASES)]


def _continued(photo: NDArray[np.uint8], width: int, height: int, scale: float) -> NDArray[np.uint8]:
    """The photo, enlarged by `scale` and mirrored until it fills width x height."""
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    larger = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    missing = (max(0, height - size[1]), max(0, width - size[0]))
    return np.pad(larger, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")[:height, :width]


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The best quality that stays below N_BYTES."""
    for quality in range(95, 20, -3):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= N_BYTES:
            break
    return buffer.getvalue()


def ours(data: bytes, options: ImageOptions) -> bytes:
    """What licet stores."""
    payload: bytes = transform(data, {}, options)["payload"]
    return payload


def opencv_area(data: bytes, size_px: int, crop: bool) -> bytes:
    """Decode in full, cut the middle square, short side to `size_px` by area averaging, encode."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[:2]
    if crop:
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        pixels, width, height = pixels[top : top + short, left : left + short], short, short
    pixels = cv2.resize(pixels, _scaled(width, height, size_px), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def reference(data: bytes, size_px: int, crop: bool) -> NDArray[np.uint8]:
    """A full decode and Pillow's Lanczos, of the middle square or of all."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if not crop:
        return np.asarray(image.resize(_scaled(*image.size, size_px), Image.Resampling.LANCZOS))
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.LANCZOS, box))


def _scaled(width: int, height: int, size_px: int) -> tuple[int, int]:
    short = min(width, height)
    return int(width * size_px / short + 0.5), int(height * size_px / short + 0.5)


def psnr(stored: bytes, wanted: NDArray[np.uint8]) -> float:
    """Decibels of a stored image against uint8 pixels."""
    pixels = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"), dtype=np.float64)
    return float(10 * np.log10(255**2 / np.mean((pixels - wanted) ** 2)))


def best_seconds(
    candidates: Mapping[str, Callable[[bytes], bytes]], images: list[bytes], rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Processor seconds per image: the least of all rounds."""
    best = {name: np.full(len(images), np.inf) for name in candidates}
    for _ in range(rounds):
        for i, data in enumerate(images):
            for name, candidate in candidates.items():
                started = time.process_time()
                candidate(data)
                best[name][i] = min(best[name][i], time.process_time() - started)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line per candidate and mode, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size_px", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    size_px: int = arguments.size_px
    cv2.setNumThreads(1)
    images = web_photos()
    figures: dict[str, float] = {"n_images": len(images), "mean_bytes": float(np.mean([len(i) for i in images]))}
    modes: tuple[ResizeMode, ...] = ("center_crop", "keep_ratio")
    for mode in modes:
        crop = mode == "center_crop"

        shared = ImageOptions(size_px=size_px, resize=mode, quality=QUALITY)
        candidates = {
            "fast": partial(ours, options=shared),
            "full": partial(ours, options=replace(shared, decoding="full")),
            "opencv_area": partial(opencv_area, size_px=size_px, crop=crop),
        }
        seconds = best_seconds(candidates, images, arguments.rounds)
        wanted = [reference(data, size_px, crop) for data in images]
        for name, candidate in candidates.items():
            rate = 1 / float(seconds[name].mean())
            decibels = float(np.mean([psnr(candidate(data), w) for data, w in zip(images, wanted, strict=True)]))
            sys.stdout.write(f"{mode:12} {name:12} {rate:6.0f} images/s  {decibels:6.2f} dB\n")
            figures |= {f"{mode}_{name}_per_s": rate, f"{mode}_{name}_psnr": decibels}
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in figures.items()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
