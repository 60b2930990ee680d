"""How close a virtual full dose is to the acquired one: the paper's four figures, defined exactly.

Both images are in [0, 1], so the data range is 1. Every figure is taken over the same domain: by default every voxel
of the grid, as the paper's are (its images are masked to the brain, so voxels outside count as zero against zero),
or the brain alone, which is harder: no empty background dilutes the error.

- L2 is the mean squared error, t-L2 the same over the enhancing lesion (section 2, "Training and testing").
- PSNR = 10·log10(1 / L2) in dB. The paper's 31.6e-5 is 35.0 dB, so its range is 1 over one domain; it reports the
  mean over subjects of each, hence 35.3.
- SSIM is the mean of Wang et al.'s index (IEEE TIP 2004) computed in 3D: Gaussian weights of σ = 1.5 voxels cut at
  3.5 σ (11³ voxels), K1 = 0.01, K2 = 0.03, population variances: scikit-image's with gaussian_weights=True and
  use_sample_covariance=False, averaged over the domain rather than over the interior of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from model.cohort import Mask

FloatArray = NDArray[np.float32]

SIGMA = 1.5
TRUNCATE = 3.5
C1 = 0.01**2
C2 = 0.03**2


@dataclass(frozen=True)
class Scores:
    """One subject's figures. ``t_l2`` is NaN for a subject without an enhancing lesion, ``psnr`` (dB) infinite for
    equals."""

    l2: float
    t_l2: float
    psnr: float
    ssim: float


def score(virtual: FloatArray, target: FloatArray, lesion: Mask, domain: Mask | None = None) -> Scores:
    """All four figures of one subject over ``domain`` (None: the whole grid); images in [0, 1] and masks (z, y, x).
    Raises ValueError for shapes that differ, and for a virtual image that is not finite: means over subjects leave out
    what is no number, and it would be lost there."""
    for name, array in (("target", target), ("lesion", lesion), ("domain", domain)):
        if array is not None and array.shape != virtual.shape:
            raise ValueError(f"{name} is {array.shape}, the virtual image {virtual.shape}")
    if not np.isfinite(virtual).all():
        raise ValueError("the virtual image holds values that are not finite: the training has diverged")
    error = l2(virtual, target, domain)
    return Scores(error, l2(virtual, target, lesion), psnr(error), ssim(virtual, target, domain))


def l2(virtual: FloatArray, target: FloatArray, domain: Mask | None = None) -> float:
    """Mean squared error over ``domain``; NaN where that is empty."""
    difference = (virtual if domain is None else virtual[domain]).astype(np.float64)
    difference -= target if domain is None else target[domain]
    return float(np.mean(difference * difference)) if difference.size else math.nan


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB for a data range of 1."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


def ssim(virtual: FloatArray, target: FloatArray, domain: Mask | None = None) -> float:
    """Mean structural similarity over ``domain``, 1 for equals; NaN where the domain is empty."""
    index = structural_similarity(virtual, target)
    values = index if domain is None else index[domain]
    return float(values.mean(dtype=np.float64)) if values.size else math.nan


def structural_similarity(virtual: FloatArray, target: FloatArray) -> FloatArray:
    """Wang's index at each voxel, the images mirrored at the grid's borders."""
    a, b = virtual.astype(np.float64), target.astype(np.float64)
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    variances = _local_mean(a * a) - mean_a**2 + _local_mean(b * b) - mean_b**2
    covariance = _local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure: NDArray[np.float64] = (2 * covariance + C2) / (variances + C2)
    index: FloatArray = (luminance * structure).astype(np.float32)
    return index


def _local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth: NDArray[np.float64] = gaussian_filter(image, SIGMA, truncate=TRUNCATE, mode="reflect")
    return smooth
