"""Does the uncertainty say how wrong the image is.

The standard deviation over eight flips has the right shape at best, not the right size, so it is multiplied by one
factor that is fitted on *other* folds: the 68.3 % quantile of |error| / uncertainty, which makes one deviation cover
what it should for a Gaussian. Then, over the brain's voxels of the held-out fold: the share within one and two
deviations (68.3 and 95.4 % would be right), and ENCE, the mean over bins of uncertainty of |RMSE − mean uncertainty| /
mean uncertainty (Levi et al., Sensors 2022; zero would be right).

Each subject is kept as two histograms on logarithmic bins, so that nothing has to be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.cohort import Mask

FloatArray = NDArray[np.float32]
RATIO_EDGES = np.geomspace(1e-2, 1e3, 401)
LEVEL_EDGES = np.geomspace(1e-5, 1.0, 26)
ONE_SD = 0.6827
FEWEST = 50
"""Bins with fewer voxels say nothing about their error."""


@dataclass(frozen=True)
class Reliability:
    """One subject: how many voxels have each |error| / uncertainty (``RATIO_EDGES``, ends included); and for each bin
    of uncertainty (``LEVEL_EDGES``) the count, the sum of squared uncertainties and of squared errors."""

    ratios: tuple[int, ...]
    counts: tuple[int, ...]
    squared_uncertainty: tuple[float, ...]
    squared_error: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """``factor`` to multiply the uncertainty by; coverage as shares; ``ence`` without unit."""

    factor: float
    within_one: float
    within_two: float
    ence: float


def reliability(virtual: FloatArray, target: FloatArray, uncertainty: FloatArray, brain: Mask) -> Reliability:
    """The two histograms of one subject, all arrays (z, y, x)."""
    error = np.abs(virtual - target)[brain].astype(np.float64)
    told = np.maximum(uncertainty[brain].astype(np.float64), LEVEL_EDGES[0])
    ratios = np.histogram(np.clip(error / told, RATIO_EDGES[0], RATIO_EDGES[-1]), RATIO_EDGES)[0]
    sums = [
        np.histogram(np.minimum(told, LEVEL_EDGES[-1]), LEVEL_EDGES, weights=weights)[0]
        for weights in (None, told**2, error**2)
    ]
    counts, squared_uncertainty, squared_error = (tuple(values.tolist()) for values in sums)
    return Reliability(tuple(ratios.tolist()), counts, squared_uncertainty, squared_error)


def calibrate(fitted_on: Sequence[Reliability], judged: Sequence[Reliability]) -> Calibration:
    """The factor from some subjects, everything else from others."""
    factor = _quantile(_sum(fitted_on, "ratios"), ONE_SD)
    ratios = _sum(judged, "ratios")
    counts, told, wrong = (_sum(judged, name) for name in ("counts", "squared_uncertainty", "squared_error"))
    full = counts >= FEWEST
    told, wrong = (np.sqrt(sums[full] / counts[full]) for sums in (told * factor**2, wrong))
    ence = float(np.mean(np.abs(wrong - told) / told)) if full.any() else math.nan
    return Calibration(factor, _share_below(ratios, factor), _share_below(ratios, 2 * factor), ence)


def _sum(subjects: Sequence[Reliability], name: str) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.sum([getattr(one, name) for one in subjects], axis=0, dtype=np.float64)
    return total


def _quantile(counts: NDArray[np.float64], share: float) -> float:
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return float(np.exp(np.interp(share, below, np.log(RATIO_EDGES))))


def _share_below(counts: NDArray[np.float64], ratio: float) -> float:
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(math.log(ratio), np.log(RATIO_EDGES), below))
