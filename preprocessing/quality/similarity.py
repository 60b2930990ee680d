"""How much two series of one head tell about each other, and whether they would tell more if one were moved.

Normalised mutual information (Studholme, Hill and Hawkes 1999): the sum of both entropies over their joint entropy, 1
for images that have nothing in common, 2 for one image twice.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from preprocessing.volume import FloatArray

BINS = 32
STEPS = (4, 2, 1)  # mm
FARTHEST = 12  # mm
Mask = NDArray[np.bool_]
Levels = NDArray[np.intp]


def levels(array: FloatArray, brain: Mask) -> Levels:
    """Intensities as one of ``BINS`` levels between the brain's 0.5th and 99.5th percentile; −1 where not finite."""
    known = np.isfinite(array)
    low, high = np.percentile(array[brain & known], (0.5, 99.5)) if (brain & known).any() else (0.0, 1.0)
    scaled = (np.nan_to_num(array) - low) / max(high - low, np.finfo(np.float32).tiny) * BINS
    return np.where(known, np.clip(scaled, 0, BINS - 1).astype(np.intp), -1)


def similarity(one: Levels, other: Levels) -> float:
    """The normalised mutual information of two rows of levels; NaN when they share no voxel."""
    both = (one >= 0) & (other >= 0)
    joint = np.bincount(one[both] * BINS + other[both], minlength=BINS * BINS).reshape(BINS, BINS)
    if not joint.any():
        return float("nan")
    joint_entropy = _entropy(joint)
    if joint_entropy == 0:
        return float("nan")
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / joint_entropy


def misalignment(fixed: Levels, moving: Levels, brain: Mask) -> float:
    """How far (mm) ``moving`` must be shifted until no shift makes it more similar; arrays on a 1 mm grid.

    From coarse to fine steps, at most ``FARTHEST``; 0 for what is aligned. It tells a registration that stopped too
    early, whatever the contrasts; one that failed so far that nothing leads back is told by its similarity.
    """
    here = np.argwhere(brain)[::11]
    margin = FARTHEST + 1
    limits = np.asarray(brain.shape)
    here = here[((here >= margin) & (here < limits - margin)).all(axis=1)]
    if not len(here):
        return float("nan")
    ours = fixed[tuple(here.T)]

    def at(shift: tuple[int, int, int]) -> float:
        return similarity(ours, moving[tuple((here + shift).T)])

    place = (0, 0, 0)
    best = at(place)
    if not np.isfinite(best):
        return float("nan")
    for step in STEPS:
        while True:
            near = [_moved(place, move, step) for move in product((-1, 0, 1), repeat=3) if sum(map(abs, move)) == 1]
            allowed = [shift for shift in near if max(map(abs, shift)) <= FARTHEST]
            found = max((at(shift), shift) for shift in allowed)
            if not found[0] > best:
                break
            best, place = found
    return float(np.linalg.norm(place))


def _moved(place: tuple[int, int, int], move: tuple[int, ...], step: int) -> tuple[int, int, int]:
    k, j, i = (a + step * b for a, b in zip(place, move, strict=True))
    return k, j, i


def _entropy(counts: NDArray[np.intp]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
