"""What is stored of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from licet.errors import UsageError

ImageFormat = Literal["jpg", "png", "webp", "avif"]
ResizeMode = Literal["center_crop", "keep_ratio", "keep_ratio_largest", "border", "stretch", "buckets", "no"]
Interpolation = Literal["lanczos", "bicubic", "bilinear", "area", "nearest"]
Decoding = Literal["fast", "full"]
Reencoding = Literal["always", "if_changed"]
Subsampling = Literal["420", "422", "444"]
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class ImageOptions:
    """What is stored of an image."""

    size_px: int = 512
    """Side of the result in pixels; `resize` says which. For `buckets` the square root of the area that is aimed at."""
    resize: ResizeMode = "center_crop"
    """`center_crop` keeps the middle square, `keep_ratio` makes the short side size_px, `keep_ratio_largest` the long
    side, `border` fits the whole image into a square and pads it, `stretch` makes it square by distorting it, `buckets`
    crops to the nearest of some aspect ratios of about the same area, `no` keeps the size as it is."""
    upscale: bool = False
    """Whether smaller images are enlarged to size_px; otherwise only bigger ones are resized."""
    downscale_interpolation: Interpolation = "lanczos"
    """How images are made smaller."""
    upscale_interpolation: Interpolation = "lanczos"
    """How images are made larger."""
    decoding: Decoding = "fast"
    """`fast` lets libjpeg scale a JPEG by 1/2, 1/4 or 1/8 where that loses nothing visible; `full` never does."""
    bucket_step_px: int = 64
    """Both sides of a bucket are multiples of it."""
    bucket_max_ratio: float = 2.0
    """Longest side of a bucket divided by its shortest."""
    border: str = "#ffffff"
    """Colour of the padding of `border`."""
    background: str = "#ffffff"
    """Colour behind transparent pixels."""
    format: ImageFormat = "jpg"
    """How images are encoded."""
    quality: int = 95
    """Of jpg, webp and avif, 1 to 100."""
    subsampling: Subsampling = "420"
    """Chroma subsampling of jpg and avif; `444` keeps all colour detail in larger files."""
    png_compression: int = 6
    """0 (fast) to 9 (small)."""
    webp_lossless: bool = False
    """Whether webp keeps every pixel; quality then trades time for size."""
    webp_method: int = 4
    """0 (fast) to 6 (small)."""
    avif_speed: int = 6
    """0 (small) to 10 (fast)."""
    reencode: Reencoding = "always"
    """`if_changed` keeps the original bytes of an image that is already as wanted: format, size, upright, sRGB, opaque,
    one frame, no box to blur, no word of where it was taken, no second picture inside. `always` stores only bytes that
    our encoders wrote."""
    blur_margin: float = 0.1
    """Boxes to blur grow by this share of their sides before, in each direction."""
    keep_exif: bool = False
    """Whether EXIF tags are kept as JSON."""
    keep_gps: bool = False
    """Whether these tags, and originals that are kept, may say where the image was taken."""
    min_size_px: int = 0
    """Images whose short side is smaller are refused by their header; 0 takes all."""
    max_area_px: int = 0
    """Images of more pixels are refused by their header; 0 takes all that max_pixels allows."""
    max_aspect_ratio: float = 0.0
    """Images whose long side is more than this many times the short one are refused by their header; 0 takes all."""
    max_pixels: int = 100_000_000
    """Images whose header promises more are refused before they are decoded: a limit for safety."""
    max_side_px: int = 65_535
    """The same for the longer side."""
    max_frames: int = 1_000
    """The same for frames and pages, of which the first is taken."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                wanted = f"{low:g} to {high:g}" if high < _MANY else f"at least {low:g}"
                raise UsageError(f"image.{name} must be {wanted}, found {value:g}.")
        if 0 < self.max_aspect_ratio < 1:
            raise UsageError(f"image.max_aspect_ratio must be 0 or at least 1, found {self.max_aspect_ratio:g}.")
        if self.resize == "buckets" and self.size_px < self.bucket_step_px:
            raise UsageError(
                f"image.size_px must be at least image.bucket_step_px, found {self.size_px} and {self.bucket_step_px}."
            )
        _ = self.background_rgb, self.border_rgb

    @property
    def background_rgb(self) -> RGB:
        return _colour("background", self.background)

    @property
    def border_rgb(self) -> RGB:
        return _colour("border", self.border)


_MANY = 2**53
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("size_px", 1, 65_535),
    ("bucket_step_px", 1, 65_535),
    ("bucket_max_ratio", 1, 1_000),
    ("quality", 1, 100),
    ("png_compression", 0, 9),
    ("webp_method", 0, 6),
    ("avif_speed", 0, 10),
    ("blur_margin", 0, 10),
    ("min_size_px", 0, _MANY),
    ("max_area_px", 0, _MANY),
    ("max_aspect_ratio", 0, _MANY),
    ("max_pixels", 1, _MANY),
    ("max_side_px", 1, _MANY),
    ("max_frames", 1, _MANY),
)


def _colour(name: str, text: str) -> RGB:
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except ValueError as error:
        raise UsageError(f"image.{name} must be a colour such as #ffffff, found {text!r}.") from error
    return red, green, blue
