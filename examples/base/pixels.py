"""The base model's training pictures: licensed photos, and the crops of them that it learns from.

The cat's photo is the one that the demo later teaches by DreamBooth, so the base must not have seen that individual:
each of its crops is recoloured and reshaped into another cat. This module must not know of any model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab

SHORT_SIDE_PX = 256  # photos are resized to this before anything else
CROP_PX = 64  # what the model is trained on
SUBJECT_KEY = "chelsea"  # the individual that stays out of training
OVERSAMPLING = 3  # crops are sampled this much finer, then averaged, against aliasing


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo as the training reads it."""

    key: str
    class_prompt: str  # "a photo of a cat"
    pixels: np.ndarray  # (H, W, 3) uint8 RGB, short side SHORT_SIDE_PX
    licence: str
    creator: str
    credit: str
    source_page: str


@dataclass(frozen=True)
class Coat:
    """A way to recolour a cat, in CIE Lab; each pair is a range that a cat's own value is drawn from."""

    hue_turn_deg: tuple[float, float]
    chroma_gain: tuple[float, float]
    lightness_gain: tuple[float, float]  # below 1 darkens towards black; above 1 lightens towards white
    weight: float  # how often, relative to the others


# The subject is a ginger tabby (hue about 65 degrees). No coat is near that: little chroma, or a hue far away.
COATS: dict[str, Coat] = {
    "grey": Coat((-10, 10), (0.05, 0.20), (0.85, 1.2), 0.22),
    "black": Coat((-40, 40), (0.10, 0.25), (0.40, 0.60), 0.20),
    "white": Coat((-10, 10), (0.05, 0.18), (1.6, 2.0), 0.20),
    "blue": Coat((175, 205), (0.9, 1.3), (0.75, 1.2), 0.15),
    "purple": Coat((235, 260), (0.7, 1.1), (0.75, 1.2), 0.08),
    "green": Coat((70, 95), (0.8, 1.2), (0.75, 1.2), 0.08),
    "pink": Coat((285, 300), (0.8, 1.2), (0.95, 1.4), 0.07),
}


@dataclass(frozen=True)
class CropRange:
    """Where a photo's crops may lie, so that most of them show what the prompt says."""

    side: tuple[float, float] = (0.5, 1.0)  # fraction of SHORT_SIDE_PX
    centre_x_px: tuple[float, float] | None = None  # None: anywhere


CROP_RANGES: dict[str, CropRange] = {
    SUBJECT_KEY: CropRange((0.80, 1.0), (180, 235)),
    "astronaut": CropRange((0.60, 1.0), (90, 130)),
    "camera": CropRange((0.70, 1.0), (100, 150)),
    "coffee": CropRange((0.75, 1.0), (150, 210)),
    "china": CropRange((0.70, 1.0), (115, 170)),
    "flower": CropRange((0.75, 1.0), (160, 210)),
    "rocket": CropRange((0.65, 1.0), (175, 210)),
    "retina": CropRange((0.85, 1.0)),
}


def draw_crop(photo: TrainingPhoto, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One training crop of a photo, and the name of its coat ("" for anything but a cat).

    Returns (CROP_PX, CROP_PX, 3) uint8. Cats are warped and recoloured into other individuals; other photos are
    cropped, flipped, and only slightly changed in colour.
    """
    is_cat = photo.key == SUBJECT_KEY
    warp = 0.05 if is_cat else 0.02
    crop = _sample_square(photo, warp, rng)
    if is_cat:
        name = str(rng.choice(list(COATS), p=np.array([c.weight for c in COATS.values()])))
        return _to_uint8(wear_coat(crop, COATS[name], rng)), name
    plain = Coat((-12, 12), (0.8, 1.2), (0.9, 1.15), 1.0)
    return _to_uint8(wear_coat(crop, plain, rng)), ""


def wear_coat(rgb: np.ndarray, coat: Coat, rng: np.random.Generator) -> np.ndarray:
    """Recolour a crop: turn its hue, scale its chroma, lighten or darken, and change how strong its markings are.

    `rgb` is (H, W, 3) float in [0, 1]; so is what is returned. Works in CIE Lab (D65).
    """
    lab = rgb2lab(rgb)
    lightness = lab[..., 0]
    smooth = gaussian_filter(lightness, sigma=rgb.shape[0] / 16)
    lightness = smooth + rng.uniform(0.7, 1.4) * (lightness - smooth)
    gain = rng.uniform(*coat.lightness_gain)
    lightness = lightness * gain if gain < 1 else 100 - (100 - lightness) / gain
    turn = np.deg2rad(rng.uniform(*coat.hue_turn_deg))
    chroma = rng.uniform(*coat.chroma_gain) * (lab[..., 1] + 1j * lab[..., 2]) * np.exp(1j * turn)
    return np.clip(lab2rgb(np.stack([np.clip(lightness, 0, 100), chroma.real, chroma.imag], axis=-1)), 0, 1)


def _sample_square(photo: TrainingPhoto, warp: float, rng: np.random.Generator) -> np.ndarray:
    """A square crop under a small random affine map and a smooth displacement; (CROP_PX, CROP_PX, 3) in [0, 1].

    `warp` is the displacement's standard deviation as a fraction of the crop's side.
    """
    height, width, _ = photo.pixels.shape
    allowed = CROP_RANGES.get(photo.key, CropRange())
    side = rng.uniform(*allowed.side) * SHORT_SIDE_PX
    centre_x = np.clip(rng.uniform(*(allowed.centre_x_px or (0, width))), side / 2, width - side / 2)
    centre_y = rng.uniform(side / 2, height - side / 2)

    n = CROP_PX * OVERSAMPLING
    axis = (torch.arange(n, dtype=torch.float32) + 0.5) / n - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    control = torch.from_numpy(rng.normal(0, warp, (1, 2, 4, 4)).astype(np.float32))
    shift = torch.nn.functional.interpolate(control, size=(n, n), mode="bicubic", align_corners=True)[0]
    angle, aspect = np.deg2rad(rng.normal(0, 4)), np.exp(rng.normal(0, 0.05))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    turned_x = flip * aspect * (np.cos(angle) * x - np.sin(angle) * y) + shift[0]
    turned_y = (np.sin(angle) * x + np.cos(angle) * y) / aspect + shift[1]
    source_x, source_y = centre_x + side * turned_x, centre_y + side * turned_y
    grid = torch.stack([source_x * 2 / width - 1, source_y * 2 / height - 1], dim=-1)

    source = torch.from_numpy(photo.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(source, grid[None], padding_mode="reflection", align_corners=False)
    return torch.nn.functional.avg_pool2d(sampled, OVERSAMPLING)[0].permute(1, 2, 0).numpy()


def _to_uint8(rgb: np.ndarray) -> np.ndarray:
    return np.round(rgb * 255).astype(np.uint8)
