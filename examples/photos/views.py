"""Views of photos: one subject's photo as if it had been taken several times, and stand-ins for other individuals.

DreamBooth needs several pictures of one subject, and its measure needs pictures of the same subject that were not
trained on. The installed packages hold one photo of one cat, so its crops, turns, mirror images and small changes of
light are the subject's views, and views with another coat and another shape of face stand for other cats. They are
stand-ins: other cats would differ in more than that. Everything here is a pure function of the packages' photos. This
module must not know what licet or anybody else does with a view.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab
from skimage.transform import warp

from examples.photos.table import PHOTOS, photo_bytes

VIEW_PX = 256
SUBJECT_CAPTION = "a photo of sks cat"
CLASS_CAPTION = "a photo of a cat"


@dataclass(frozen=True)
class View:
    """One picture."""

    name: str  # unique, [a-z0-9-]
    data: bytes  # PNG, VIEW_PX square, RGB
    caption: str
    held_out: bool  # never to be trained on

    @property
    def pixels(self) -> np.ndarray:
        """(VIEW_PX, VIEW_PX, 3) uint8."""
        return np.asarray(Image.open(io.BytesIO(self.data)).convert("RGB"))


@dataclass(frozen=True)
class Camera:
    """Where a view is cut from its photo, and in what light. Lengths are pixels of the photo."""

    centre_px: tuple[float, float]  # x, y
    side_px: float
    turn_deg: float = 0.0
    mirror: bool = False
    brightness: float = 1.0
    contrast: float = 1.0


@dataclass(frozen=True)
class Face:
    """How another individual's face differs in shape."""

    width: float = 1.0  # above 1: wider
    height: float = 1.0
    bulge: float = 0.0  # above 0: the middle of the face is larger than its rim
    slant: float = 0.0  # sideways shear, as a fraction


@dataclass(frozen=True)
class Coat:
    """How another individual's colours differ, in CIE Lab (D65)."""

    name: str
    hue_turn_deg: float = 0.0
    chroma_gain: float = 1.0
    lightness_gain: float = 1.0  # below 1 darkens towards black; above 1 lightens towards white
    marking_gain: float = 1.0  # how strong stripes and spots are


TRAINING = (
    Camera((212, 152), 290),
    Camera((232, 150), 276, mirror=True, brightness=1.04),
    Camera((200, 146), 256, turn_deg=4),
    Camera((248, 154), 284, turn_deg=-4, contrast=0.94),
    Camera((206, 160), 264, turn_deg=-2, mirror=True, contrast=1.06),
    Camera((222, 140), 244, brightness=0.94),
)
HELD_OUT = (
    Camera((220, 148), 282, turn_deg=2, brightness=0.97),
    Camera((194, 150), 272, mirror=True, contrast=1.04),
    Camera((240, 146), 262, turn_deg=-3),
    Camera((214, 156), 250, mirror=True, turn_deg=3, brightness=1.05),
    Camera((228, 158), 270, turn_deg=5, contrast=0.96),
    Camera((204, 140), 240, turn_deg=-5, brightness=1.02),
    Camera((254, 150), 292, mirror=True, brightness=0.95),
    Camera((210, 150), 298, turn_deg=-1, contrast=1.05),
)
COFFEE = (
    Camera((300, 195), 380),
    Camera((285, 205), 350, mirror=True),
    Camera((320, 200), 360, turn_deg=4),
    Camera((300, 190), 330, turn_deg=-4, brightness=0.95),
    Camera((290, 200), 370, mirror=True, contrast=1.05),
    Camera((315, 198), 345, brightness=1.05),
)
FACES = (
    Face(width=1.14, bulge=0.10),
    Face(width=0.88, height=1.06),
    Face(height=0.90, bulge=-0.12, slant=0.06),
    Face(width=0.94, height=1.10, bulge=0.16, slant=-0.06),
)
COATS = (
    Coat("grey", chroma_gain=0.15),
    Coat("silver", chroma_gain=0.22, lightness_gain=1.35, marking_gain=1.5),
    Coat("black", chroma_gain=0.25, lightness_gain=0.45, marking_gain=1.2),
    Coat("white", chroma_gain=0.15, lightness_gain=1.9, marking_gain=1.2),
    Coat("cream", hue_turn_deg=8, chroma_gain=0.8, lightness_gain=1.6, marking_gain=0.9),
    Coat("red", hue_turn_deg=-18, chroma_gain=1.7, marking_gain=0.8),
    Coat("chocolate", hue_turn_deg=-12, chroma_gain=0.8, lightness_gain=0.62),
    Coat("blue-grey", hue_turn_deg=190, chroma_gain=0.55, lightness_gain=0.9),
    Coat("olive", hue_turn_deg=30, chroma_gain=0.9, lightness_gain=0.85, marking_gain=1.4),
    Coat("lilac", hue_turn_deg=-80, chroma_gain=0.5, lightness_gain=1.3),
)


@lru_cache(maxsize=1)
def subject_views() -> tuple[View, ...]:
    """Six training views and eight held-out views of the subject, Chelsea the cat."""
    photo = _photo("chelsea")
    training = [_view(f"chelsea-{i}", photo, c, SUBJECT_CAPTION) for i, c in enumerate(TRAINING)]
    held_out = [_view(f"chelsea-held-out-{i}", photo, c, SUBJECT_CAPTION, True) for i, c in enumerate(HELD_OUT)]
    return (*training, *held_out)


@lru_cache(maxsize=1)
def other_individuals() -> tuple[View, ...]:
    """Two views of each of ten cats that are not the subject: another coat on a face of another shape.

    They are the subject's own photo, recoloured and reshaped: see the module's text.
    """
    photo = _photo("chelsea")
    views = []
    for i, coat in enumerate(COATS):
        for j, face in enumerate((FACES[i % len(FACES)], FACES[(i + 1) % len(FACES)])):
            camera = HELD_OUT[(2 * i + j) % len(HELD_OUT)]
            views.append(_view(f"{coat.name}-cat-{j}", photo, camera, CLASS_CAPTION, True, face, coat))
    return tuple(views)


@lru_cache(maxsize=1)
def coffee_views() -> tuple[View, ...]:
    """Six views of another subject, of another class: the control."""
    photo = _photo("coffee")
    return tuple(_view(f"coffee-{i}", photo, c, "a photo of sks cup", True) for i, c in enumerate(COFFEE))


def wear_coat(rgb: np.ndarray, coat: Coat) -> np.ndarray:
    """Recolour a picture: (H, W, 3) float in [0, 1] in and out."""
    lab = rgb2lab(rgb)
    smooth = gaussian_filter(lab[..., 0], sigma=rgb.shape[0] / 16)
    lightness = smooth + coat.marking_gain * (lab[..., 0] - smooth)
    gain = coat.lightness_gain
    lightness = lightness * gain if gain < 1 else 100 - (100 - lightness) / gain
    chroma = coat.chroma_gain * (lab[..., 1] + 1j * lab[..., 2]) * np.exp(1j * np.deg2rad(coat.hue_turn_deg))
    return np.clip(lab2rgb(np.stack([np.clip(lightness, 0, 100), chroma.real, chroma.imag], axis=-1)), 0, 1)


def _photo(key: str) -> np.ndarray:
    """A photo of the table as (H, W, 3) float in [0, 1]."""
    [photo] = [p for p in PHOTOS if p.key == key]
    return np.asarray(Image.open(io.BytesIO(photo_bytes(photo))).convert("RGB")) / 255


def _view(
    name: str,
    photo: np.ndarray,
    camera: Camera,
    caption: str,
    held_out: bool = False,
    face: Face | None = None,
    coat: Coat | None = None,
) -> View:
    rgb = warp(
        photo, lambda xy: _source_px(xy, camera, face or Face()), output_shape=(VIEW_PX, VIEW_PX), mode="reflect"
    )
    rgb = wear_coat(rgb, coat) if coat else rgb
    rgb = np.clip((rgb - 0.5) * camera.contrast + 0.5, 0, 1) * camera.brightness
    buffer = io.BytesIO()
    Image.fromarray(np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)).save(buffer, format="PNG")
    return View(name, buffer.getvalue(), caption, held_out)


def _source_px(xy: np.ndarray, camera: Camera, face: Face) -> np.ndarray:
    """Where in the photo each pixel (N, 2) of a view is looked up."""
    u, v = ((xy + 0.5) / VIEW_PX - 0.5).T
    u = -u if camera.mirror else u
    u, v = (u + face.slant * v) / face.width, v / face.height
    pull = 1 - face.bulge * np.exp(-8 * (u**2 + v**2))
    angle = np.deg2rad(camera.turn_deg)
    x = pull * (np.cos(angle) * u - np.sin(angle) * v)
    y = pull * (np.sin(angle) * u + np.cos(angle) * v)
    return np.stack([camera.centre_px[0] + camera.side_px * x, camera.centre_px[1] + camera.side_px * y], axis=1) - 0.5
