"""How near an image is to a subject that a few reference images show: a measure for images of about 64 px.

    similarity(image, reference) = structure * colour                  in 0..1; 1 for the same pixels
      structure   what is shown: the cosine between outputs of the last stage of EfficientNet-Lite0 (ImageNet), averaged
                  over the image, stretched so that UNRELATED and below is 0
      colour      exp(-d / COLOUR_SCALE), d the mean over the four quarters of the Euclidean distance between their
                  CIE Lab means and standard deviations: its colours, and roughly where they are

and an image's score is its mean over the references, as DreamBooth's CLIP-I and DINO scores are (Ruiz et al., CVPR
2023, arXiv:2208.12242). Network features follow what people see (Zhang et al., LPIPS, CVPR 2018, arXiv:1801.03924),
but of 64 px images they hardly follow colour, hence the second factor. A product asks for both: another class in the
subject's colours is at 0, and the subject in other colours loses as much as the colours differ.

Every image is first brought to 64 px and blurred, because a small autoencoder blurs and these features notice that
first: without it a sharp stranger comes before a blurred subject. Limits: an individual who differs by the shape of
the face alone is hardly told apart; the score says little about quality; compare scores for the same references only.

This module must not know of diffusion models, prompts or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from lightning_modules.diffusion.efficientnet import load_efficientnet

SIZE_PX = 64  # images are compared at this size
BLUR_SIGMA_PX = 2.0
NETWORK_PX = 128
STAGE = 6
UNRELATED = 0.45  # photos of other classes reached 0.41, those recoloured to the subject's colours among them
COLOUR_CELLS = 2  # per side
COLOUR_SCALE = 20.0  # Lab units at which colour falls to 1/e
BATCH = 32


class SubjectSimilarity:
    """Similarity to one subject.

    `references` are uint8 RGB images (H, W, 3) of any size; the centre square counts. Raises ValueError for none of
    them, or for an image of another shape or type. Everything is pure and runs on the CPU.
    """

    def __init__(self, references: Sequence[np.ndarray]) -> None:
        self._structure, self._colour = _describe(references)

    def pairwise(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Similarity of each image to each reference: (N, R) float64 in 0..1."""
        structure, colour = _describe(images)
        cosine = structure @ self._structure.T
        distance = np.linalg.norm(colour[:, None] - self._colour[None], axis=-1).mean(axis=-1)
        return np.clip((cosine - UNRELATED) / (1 - UNRELATED), 0, 1) * np.exp(-distance / COLOUR_SCALE)

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Similarity of each image to the subject, the mean over the references: (N,) float64 in 0..1."""
        return self.pairwise(images).mean(axis=1)

    def nearest(self, image: np.ndarray) -> int:
        """Index of the reference that an image is most similar to."""
        return int(self.pairwise([image])[0].argmax())


def class_similarity(class_images: Sequence[np.ndarray], samples: Sequence[np.ndarray]) -> np.ndarray:
    """How near samples of a class prompt are to images of the class: (N,) float64 in 0..1.

    Before and after training, against the same images from the untrained model, it shows the class's drift.
    """
    return SubjectSimilarity(class_images).score(samples)


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties by half (Mann & Whitney, 1947)."""
    above = positive[:, None] > negative[None, :]
    equal = positive[:, None] == negative[None, :]
    return float((above + 0.5 * equal).mean())


def paired_bootstrap_lower_bound(
    before: np.ndarray, after: np.ndarray, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> float:
    """One-sided lower bound of the mean of after - before, by resampling pairs (percentile method; Efron, 1979).

    Above 0 means: `confidence` sure that the mean rose. Raises ValueError when the two differ in length or are empty.
    """
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(f"expected two equal lengths above 0, found {before.shape} and {after.shape}")
    difference = after - before
    drawn = np.random.default_rng(seed).integers(len(difference), size=(resamples, len(difference)))
    return float(np.quantile(difference[drawn].mean(axis=1), 1 - confidence))


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65, 2 degrees) of sRGB values in 0..1, (..., 3) both; IEC 61966-2-1 and CIE 15."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    relative = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _describe(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Unit features (N, C) and colour moments (N, cells, 6), float64 both."""
    if not len(images):
        raise ValueError("expected at least one image")
    squares = torch.from_numpy(np.stack([_square(image) for image in images])).permute(0, 3, 1, 2).float()
    pixels = _blur(squares)  # (N, 3, SIZE_PX, SIZE_PX) in 0..255
    return _structure(pixels), _colour(pixels)


def _square(image: np.ndarray) -> np.ndarray:
    """The centre square, SIZE_PX wide (Lanczos)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 image (H, W, 3), found {image.dtype} {image.shape}")
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS))


def _blur(pixels: torch.Tensor) -> torch.Tensor:
    radius = round(4 * BLUR_SIGMA_PX)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / BLUR_SIGMA_PX) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    rows = F.conv2d(F.pad(pixels, (radius, radius, 0, 0), mode="reflect"), kernel, groups=3)
    return F.conv2d(F.pad(rows, (0, 0, radius, radius), mode="reflect"), kernel.transpose(2, 3), groups=3)


@torch.inference_mode()
def _structure(pixels: torch.Tensor) -> np.ndarray:
    network, batches = load_efficientnet(), []
    for batch in pixels.split(BATCH):
        enlarged = F.interpolate(batch, size=NETWORK_PX, mode="bicubic", align_corners=False).clamp(0, 255)
        batches.append(F.normalize(network.stages(enlarged)[STAGE].mean(dim=(2, 3)).double(), dim=1))
    return torch.cat(batches).numpy()


def _colour(pixels: torch.Tensor) -> np.ndarray:
    n, cell = len(pixels), SIZE_PX // COLOUR_CELLS
    lab = to_lab(pixels.permute(0, 2, 3, 1).double().numpy() / 255)
    cells = lab.reshape(n, COLOUR_CELLS, cell, COLOUR_CELLS, cell, 3)
    moments = np.concatenate([cells.mean(axis=(2, 4)), cells.std(axis=(2, 4))], axis=-1)
    return moments.reshape(n, COLOUR_CELLS**2, 6)
