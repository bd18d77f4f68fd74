"""What a file says of itself before any decoder runs: kind, size, frames, orientation, and its metadata blocks.

This file knows what is asked of a header. `layouts.py` reads one, `tiff.py` and `avif.py` know the two layouts that
are trees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.images.decoding.reasons import Refused

SWAPPING_ORIENTATIONS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Limits:
    """What a header may promise. Checked before anything is decoded."""

    max_pixels: int = 100_000_000
    """Width times height."""
    max_side_px: int = 65_535
    """The longer side, pixels."""
    max_frames: int = 1_000
    """Frames of an animation, pages of a TIFF. Only the first is decoded."""


@dataclass(frozen=True)
class Header:
    """The fields that the formats have in common. Sizes are as stored, before `orientation` turns them."""

    kind: str
    """jpeg, png, webp, gif, avif, tiff or bmp."""
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    """EXIF 2.3, tag 0x0112: 1 to 8. For AVIF what `irot` and `imir` come to, which outrank EXIF there."""
    has_alpha: bool = False
    channels: int = 3
    """Samples of a pixel as stored: 1 for grey and for palettes."""
    bits: int = 8
    """Bits of one sample."""
    inverted: bool = False
    """Samples mean the opposite of what Pillow takes them for: a CMYK JPEG without Adobe's marker, 16-bit grey TIFF in
    which 0 is white."""
    planar: bool = False
    """TIFF: each channel is stored as a plane of its own."""
    icc: bytes = field(default=b"", repr=False)
    exif: bytes = field(default=b"", repr=False)
    """EXIF as a TIFF structure, beginning with its byte order; of a TIFF file, the file."""

    @property
    def has_icc(self) -> bool:
        return bool(self.icc)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) as seen."""
        return (self.height, self.width) if self.orientation in SWAPPING_ORIENTATIONS else (self.width, self.height)

    def check(self, limits: Limits) -> None:
        """Raise `Refused` when the file promises more than `limits`."""
        size = f"{self.width} x {self.height}"
        if self.width < 1 or self.height < 1:
            raise Refused("damaged-image", f"{self.kind} of {size} pixels")
        if max(self.width, self.height) > limits.max_side_px:
            raise Refused("side-too-long", f"{size}, a side may have {limits.max_side_px}")
        if self.width * self.height > limits.max_pixels:
            raise Refused("too-many-pixels", f"{size}, more than {limits.max_pixels} in all")
        if self.frames > limits.max_frames:
            raise Refused("too-many-frames", f"{self.frames} frames, more than {limits.max_frames}")
