"""Which size an image is brought to, and which part of it is kept. Arithmetic on sizes: it knows no pixels.

geometry(width, height, options) -> Geometry      or raises Refused(too-small)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from jobs.images.decoding import Refused
from jobs.images.options import ImageOptions

Size = tuple[int, int]
"""Width and height in pixels."""
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The part `box` of the upright original becomes `filled`, which lies in the middle of `stored`."""

    box: Box
    filled: Size
    stored: Size
    """Larger than `filled` where there is a border."""

    def is_identity(self, width: int, height: int) -> bool:
        """Whether an original of these sides stays as it is."""
        return self.box == (0, 0, width, height) and self.filled == self.stored == (width, height)

    def whole(self, width: int, height: int) -> Size:
        """What the whole original of these sides would become at the same scale, rounded down."""
        left, top, right, bottom = self.box
        return width * self.filled[0] // (right - left), height * self.filled[1] // (bottom - top)


def geometry(width: int, height: int, options: ImageOptions) -> Geometry:
    """Where an upright image goes. Raises `Refused` when no bucket can be filled without enlarging it."""
    size, everything = (width, height), (0, 0, width, height)
    short, long = min(size), max(size)
    mode, wanted = options.resize, options.size_px
    if mode == "no":
        return Geometry(everything, size, size)
    if mode == "buckets":
        bucket = _bucket(size, options)
        return Geometry(_middle(size, bucket), bucket, bucket)
    if mode in ("keep_ratio_largest", "border"):
        target = wanted if options.upscale else min(wanted, long)
        filled = _scaled(size, target, long)
        return Geometry(everything, filled, (wanted, wanted) if mode == "border" else filled)
    target = wanted if options.upscale else min(wanted, short)
    if mode == "keep_ratio":
        filled = _scaled(size, target, short)
        return Geometry(everything, filled, filled)
    square = (target, target)
    return Geometry(everything if mode == "stretch" else _middle(size, square), square, square)


@lru_cache(maxsize=4096)
def buckets(size_px: int, step_px: int, max_ratio: float) -> tuple[Size, ...]:
    """The sizes of training batches: sides are multiples of `step_px`, areas at most `size_px` squared.

    The square, and for each width the tallest height that the area allows, and the same on its side, as in NovelAI's
    aspect ratio bucketing (2022) and SDXL (Podell et al. 2023, appendix I); beyond `max_ratio` none. Ordered by aspect
    ratio, narrow first.
    """
    square = size_px // step_px * step_px
    found = {(square, square)}
    for short in range(step_px, size_px + 1, step_px):
        long = size_px * size_px // short // step_px * step_px
        if long <= short * max_ratio:
            found |= {(short, long), (long, short)}
    return tuple(sorted(found, key=lambda side: (side[0] / side[1], side)))


def nearest_bucket(size: Size, among: tuple[Size, ...]) -> Size:
    """The bucket whose aspect ratio is nearest on a logarithmic scale; of equals the larger, then the wider."""
    ratio = math.log(size[0] / size[1])
    return min(among, key=lambda b: (round(abs(math.log(b[0] / b[1]) - ratio), 9), -b[0] * b[1], -b[0]))


def _bucket(size: Size, options: ImageOptions) -> Size:
    """The bucket of an image. Without upscaling: of the largest area whose nearest bucket the image can fill."""
    step = options.bucket_step_px
    for budget in range(options.size_px, step - 1, -step):
        bucket = nearest_bucket(size, buckets(budget, step, options.bucket_max_ratio))
        if options.upscale or (bucket[0] <= size[0] and bucket[1] <= size[1]):
            return bucket
    raise Refused("too-small", f"{size[0]} x {size[1]} fills no bucket of steps of {step}")


def _middle(size: Size, ratio: Size) -> Box:
    """The largest part of an image that has the aspect ratio, around the middle; an odd pixel is left at the end."""
    width = min(size[0], max(1, _rounded(size[1] * ratio[0], ratio[1])))
    height = min(size[1], max(1, _rounded(size[0] * ratio[1], ratio[0])))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _scaled(size: Size, numerator: int, denominator: int) -> Size:
    return max(1, _rounded(size[0] * numerator, denominator)), max(1, _rounded(size[1] * numerator, denominator))


def _rounded(numerator: int, denominator: int) -> int:
    """Half is rounded up, in integers: no machine rounds differently."""
    return (2 * numerator + denominator) // (2 * denominator)
