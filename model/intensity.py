"""T1 and low dose on one intensity scale, so that their difference is contrast and nothing else.

Each series is normalised by the statistics of its own brain (paper, section 2), and contrast changes those: the same
tissue then has two values. Gong et al. (JMRI 2018) normalise both by their mean; a straight line through the tissue
that did not enhance is exact, and needs nothing but the prepared input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.cohort import Mask
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]
ROUNDS = 8
OUTLIER_SDS = 2.5
"""Voxels farther than this from the line, in robust standard deviations, enhanced or moved and do not shape it."""


@dataclass(frozen=True)
class Line:
    """``slope · low dose + offset`` is the low dose on T1's scale."""

    slope: float
    offset: float


def line_to_t1(t1: NDArray[np.floating], low_dose: NDArray[np.floating], brain: Mask) -> Line:
    """The line that gives the low dose T1's mean and standard deviation over the brain's tissue that did not enhance.

    Means and deviations, not least squares: noise in the low dose would flatten a regression. Raises ValueError for a
    constant brain.
    """
    x, y = (np.asarray(image)[brain].astype(np.float64) for image in (low_dose, t1))
    keep = np.ones(x.size, bool)
    line = Line(1.0, 0.0)
    for _ in range(ROUNDS):
        if keep.sum() < 2 or x[keep].std() < 1e-6:
            raise ValueError("T1 and low dose have no common scale: one of them is constant in the brain")
        slope = y[keep].std() / x[keep].std()
        line = Line(float(slope), float(y[keep].mean() - slope * x[keep].mean()))
        residual = y - line.slope * x - line.offset
        middle = np.median(residual)
        spread = 1.4826 * np.median(np.abs(residual - middle))
        keep = np.abs(residual - middle) <= OUTLIER_SDS * max(spread, 1e-6)
    return line


def on_shared_scale(inputs: NDArray[np.floating], roles: tuple[Role, ...], brain: Mask) -> FloatArray:
    """The inputs (M, z, y, x) of a subject, the low-dose channel on T1's scale as both are in ``brain`` (z, y, x)."""
    t1, low_dose = (inputs[roles.index(role)] for role in (Role.T1, Role.LOW_DOSE))
    return on_t1_scale(inputs, roles, line_to_t1(t1, low_dose, brain))


def on_t1_scale(inputs: NDArray[np.floating], roles: tuple[Role, ...], line: Line) -> FloatArray:
    """The inputs (M, z, y, x) with the low-dose channel on T1's scale, cut to [0, 1]; background stays zero."""
    shared: FloatArray = inputs.astype(np.float32)
    low_dose = shared[roles.index(Role.LOW_DOSE)]
    inside = low_dose > 0
    low_dose[inside] = np.clip(line.slope * low_dose[inside] + line.offset, 0, 1)
    return shared
