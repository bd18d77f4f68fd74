"""Why bytes are refused as an image: the reasons that a row may bear, and the error that carries them."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "not-an-image": "its first bytes are of no format on the list: jpeg, png, webp, gif, avif, tiff, bmp",
    "damaged-image": "it does not decode to its end",
    "unsupported-pixels": "its samples have no agreed range or no decoder: floats, 32-bit integers, 12-bit JPEG",
    "too-many-pixels": "its header promises more pixels than the limit",
    "side-too-long": "its header promises a longer side than the limit",
    "too-many-frames": "its header promises more frames or pages than the limit",
    "decoder-crashed": "the process that decoded it died, or answered what nobody can read",
    "decoder-timeout": "decoding took more processor time than the limit",
    "decoder-stalled": "decoding took longer than the limit without using that much processor time",
    "decoder-memory": "decoding needed more memory than the limit",
}

TRANSIENT: frozenset[str] = frozenset({"decoder-stalled"})
"""Reasons that say more about the machine than about the file: worth another try."""


class Refused(Exception):
    """These bytes give no picture. `reason` is a key of `REASONS`; `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail[:300]
