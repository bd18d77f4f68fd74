"""What is stored of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from licet.errors import UsageError

ImageFormat = Literal["jpg", "png", "webp"]
ResizeMode = Literal["center_crop", "keep_ratio", "no"]


@dataclass(frozen=True)
class ImageOptions:
    """What is stored of an image."""

    size_px: int = 512
    """Short side in pixels."""
    resize: ResizeMode = "center_crop"
    """`center_crop` keeps the middle square, `keep_ratio` the whole image, `no` the size as it is."""
    upscale: bool = False
    """Whether smaller images are enlarged to size_px."""
    format: ImageFormat = "jpg"
    """How images are encoded."""
    quality: int = 95
    """Of jpg and webp, 1 to 100."""
    max_pixels: int = 100_000_000
    """Images whose header promises more are refused before they are decoded."""
    background: str = "#ffffff"
    """Colour behind transparent pixels."""

    def __post_init__(self) -> None:
        if self.size_px < 1 or not 1 <= self.quality <= 100:
            raise UsageError(f"size_px must be at least 1 and quality 1 to 100, found {self.size_px}, {self.quality}.")
        _ = self.background_rgb

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        digits = self.background.removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(digits)
        except ValueError as error:
            raise UsageError(f"background must be a colour such as #ffffff, found {self.background!r}.") from error
        return red, green, blue
