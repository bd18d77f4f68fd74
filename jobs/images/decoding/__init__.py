"""Bytes of unknown origin to upright sRGB pixels.

    read_header(data) -> Header                           magic bytes and header fields alone; no decoder runs
    decode(data, limits, min_size_px) -> Pixels           uint8 (H, W, 3), or raises Refused(reason, detail)
    isolated_for(prepare, spec, …).run(data, job)         the same, or any function, in a process that may die

`pixels.py` trusts the decoders' answers but not their survival: who reads hostile files runs it through `isolation.py`.
Nothing here knows where bytes came from, what size is wanted in the end, or what becomes of the pixels.
"""

from jobs.images.decoding.header import Header, Limits
from jobs.images.decoding.layouts import read_header
from jobs.images.decoding.pixels import Pixels, decode
from jobs.images.decoding.reasons import REASONS, TRANSIENT, Refused

__all__ = ["REASONS", "TRANSIENT", "Header", "Limits", "Pixels", "Refused", "decode", "read_header"]
