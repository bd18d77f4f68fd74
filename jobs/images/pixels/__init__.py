"""Upright pixels to what a shard stores: size, blurred boxes, encoding, perceptual hash, EXIF.

    transform(data, job, options) -> {"payload", …} or {"reason", "detail"}

Knows images. It does not know rows, URLs, policies or shards.
"""

from jobs.images.pixels.reasons import REASONS, TRANSIENT
from jobs.images.pixels.transform import transform

__all__ = ["REASONS", "TRANSIENT", "transform"]
