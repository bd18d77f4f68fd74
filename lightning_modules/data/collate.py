"""A batch: instance images first, then as many class images, so that one forward pass takes both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from lightning_modules.data.stream import Failure, PairItem


class Batch(TypedDict):
    """B images of a step; a plain dict, so that pinning and moving to a device need no code of ours."""

    pixels: Tensor
    """(B, 3, H, W) float32 in [-1, 1]."""
    tokens: Tensor
    """(B, L) int64."""
    is_prior: Tensor
    """(B,) bool: class images are True."""
    positions: Tensor
    """(B,) int64: the global position of each image's pair."""
    keys: list[str]


def collate(items: Sequence[PairItem | Failure]) -> Batch | Failure:
    """Stack pairs. A failure goes on in place of its batch: it is raised where the batch would be used."""
    for item in items:
        if isinstance(item, Failure):
            return item
    images = [item.instance for item in items] + [item.prior for item in items if item.prior is not None]
    n_prior = len(images) - len(items)
    positions = [item.position for item in items]
    stacked = torch.from_numpy(np.stack([image.pixels for image in images]))
    return Batch(
        pixels=stacked.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1).contiguous(),
        tokens=torch.stack([image.tokens for image in images]),
        is_prior=torch.arange(len(images)) >= len(items),
        positions=torch.tensor(positions + positions[:n_prior], dtype=torch.int64),
        keys=[image.key for image in images],
    )
