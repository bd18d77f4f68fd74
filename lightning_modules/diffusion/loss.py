"""Losses of diffusion training, as plain functions of tensors. They know no model and no trainer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PriorPreservationLoss(NamedTuple):
    """The loss that is minimised, and the two means that it is made of. Scalars."""

    total: Tensor
    instance: Tensor
    prior: Tensor
    """0 where the batch holds no class image."""


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample, (B, C, h, w) twice to (B,), in float32."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def min_snr_weights(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Weights min(SNR, gamma) / SNR for epsilon, / (SNR + 1) for v, shape (B,) as `snr`.

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", arXiv:2303.09556, section 3.4.
    """
    clipped = snr.clamp(max=gamma)
    return clipped / (snr if prediction_type == "epsilon" else snr + 1)


def prior_preservation_loss(
    prediction: Tensor, target: Tensor, is_prior: Tensor, weight: float, sample_weights: Tensor | None = None
) -> PriorPreservationLoss:
    """Mean over instance samples + weight * mean over class samples.

    Ruiz et al., "DreamBooth", arXiv:2208.12242, equation 2. Prediction and target are (B, C, h, w), `is_prior` is (B,)
    bool, `sample_weights` is (B,) and multiplies each sample's error, of either half. No value is read back from a
    device.
    """
    errors = per_sample_mse(prediction, target)
    if sample_weights is not None:
        errors = errors * sample_weights
    instance = _mean_where(errors, ~is_prior)
    prior = _mean_where(errors, is_prior)
    return PriorPreservationLoss(instance + weight * prior, instance, prior)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values, 0 where there are none; the others' gradients are exactly 0."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)
