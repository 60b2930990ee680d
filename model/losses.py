"""What training minimises: the paper's L2, and what others minimise instead. Each can be tried alone."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional

from model.metrics import C1, C2, SIGMA, TRUNCATE

HUBER_DELTA = 0.05
"""Errors above this, in units of the image's range, count linearly: a quarter of a bright lesion's enhancement."""
ENHANCEMENT_WEIGHT = 20.0
"""A voxel whose full dose is 0.3 above T1 counts 1 + 20 · 0.3 = 7 times."""
SSIM_WEIGHT = 0.01
"""Brings 1 − SSIM (some hundredths) to the size of L2 (some 10⁻⁴)."""


class Loss(StrEnum):
    """Means over all voxels of a batch."""

    L2 = "l2"
    """The paper's (section 2, "Training and testing the deep network")."""
    L1 = "l1"
    """Gong et al.'s."""
    HUBER = "huber"
    """Squared up to ``HUBER_DELTA``, linear beyond (Huber 1964)."""
    ENHANCEMENT = "enhancement"
    """L2, each voxel weighted by 1 + ``ENHANCEMENT_WEIGHT`` times what the full dose adds to T1 there."""
    L2_SSIM = "l2_ssim"
    """L2 + ``SSIM_WEIGHT`` (1 − SSIM), SSIM as in ``model.metrics``."""
    LIKELIHOOD = "likelihood"
    """The negative logarithm of a Gaussian's likelihood whose variance the network tells too (Kendall & Gal, NeurIPS
    2017), as Kleesiek et al. learn their uncertainty."""


def loss_of(kind: Loss, answer: Tensor, target: Tensor, t1: Tensor | None = None) -> Tensor:
    """The loss of ``answer`` (batch, 1, z, y, x), or (batch, 2, z, y, x) with the logarithm of the variance for
    LIKELIHOOD; ``t1`` (batch, 1, z, y, x) is for ENHANCEMENT."""
    error = answer[:, :1] - target
    match kind:
        case Loss.L2:
            return error.square().mean()
        case Loss.L1:
            return error.abs().mean()
        case Loss.HUBER:
            return functional.huber_loss(answer, target, delta=HUBER_DELTA)
        case Loss.ENHANCEMENT:
            if t1 is None:
                raise ValueError("the enhancement-weighted loss needs T1 among the inputs")
            return (error.square() * (1 + ENHANCEMENT_WEIGHT * (target - t1).clamp(min=0))).mean()
        case Loss.L2_SSIM:
            return error.square().mean() + SSIM_WEIGHT * (1 - mean_ssim(answer, target))
        case Loss.LIKELIHOOD:
            log_variance = answer[:, 1:]
            return 0.5 * (error.square() * torch.exp(-log_variance) + log_variance).mean()


def mean_ssim(virtual: Tensor, target: Tensor) -> Tensor:
    """``model.metrics.ssim`` over the whole grid, differentiable: (batch, 1, z, y, x) to one number."""
    mean_a, mean_b = _local_mean(virtual), _local_mean(target)
    variances = _local_mean(virtual**2) - mean_a**2 + _local_mean(target**2) - mean_b**2
    covariance = _local_mean(virtual * target) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean()


def _local_mean(image: Tensor) -> Tensor:
    """Products with matrices, not convolutions: a GPU rounds what fp32 convolutions multiply to 10 bits (TF32), and
    a variance, the small difference of large means, would be lost in that. They also take a tenth of the time."""
    for axis in (-3, -2, -1):
        image = torch.tensordot(image, _smoothing(image.shape[axis]).to(image), ([axis], [1])).movedim(-1, axis)
    return image


@lru_cache(maxsize=8)
def _smoothing(length: int) -> Tensor:
    """What ``model.metrics`` does along an axis, as a matrix (length, length)."""
    columns = gaussian_filter1d(np.eye(length), SIGMA, axis=0, truncate=TRUNCATE, mode="reflect")
    return torch.from_numpy(columns)
