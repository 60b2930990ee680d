"""The brain that was found, and how it had to be bent to lie in the template."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from preprocessing.brain import dice
from preprocessing.grid import NETWORK_GRID, template
from preprocessing.resample import Matrix, inverse, resample

Mask = NDArray[np.bool_]


@cache
def brain_of_template() -> Mask:
    """The template's brain on the network grid."""
    return np.asarray(resample(template(), like=NETWORK_GRID).array > 0)


def brain_volume(brain: Mask, to_t1: Matrix) -> float:
    """The patient's brain in ml, from its mask on the network grid and the transform from there to the T1."""
    return float(brain.sum()) * abs(float(np.linalg.det(to_t1[:3, :3]))) / 1000


def brain_shape(brain: Mask) -> float:
    """Dice's overlap with the template's brain."""
    return dice(brain, brain_of_template())


def brain_scale(to_t1: Matrix) -> float:
    """The largest factor by which the affine transform stretches or squeezes along any direction; 1 for none."""
    factors = np.linalg.svd(to_t1[:3, :3], compute_uv=False)
    return float(max(factors.max(), 1 / max(factors.min(), 1e-6)))


def pose(from_t1: Matrix, centre: NDArray[np.float64]) -> tuple[float, float]:
    """Rotation in degrees and shift in mm at ``centre`` (an LPS point of the T1) of a series' rigid transform."""
    rotation = from_t1[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0)))
    shift = from_t1[:3, :3] @ centre + from_t1[:3, 3] - centre
    return float(angle), float(np.linalg.norm(shift))


def from_t1(transform: Matrix, to_t1: Matrix) -> Matrix:
    """A series' transform from the T1, given both from the network grid."""
    return np.asarray(transform @ inverse(to_t1))
