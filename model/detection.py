"""Would a lesion be seen in the virtual image, and what would be seen that is not there: reproducible, no reader.

- **Enhancement** of an image is the image minus T1, both in [0, 1], smoothed by a Gaussian of σ = 0.7 voxels, inside
  the brain.
- A voxel **enhances** where that exceeds a level, and five times the noise of the image it is seen in (Rose 1948: what
  is less does not stand out). The level is fitted on the *full dose* of the training subjects: of a hundred candidates
  the one with the highest Dice overlap, pooled over subjects, between voxels above it and lesion masks. Test subjects
  and virtual images have no part in it. The noise is 1.4826 median absolute deviations of the enhancement in the
  brain, most of which enhances little. Without it, a low dose multiplied by four would show more lesions than the full
  dose itself: its noise is multiplied too, and half of the voxels of a lesion that nobody sees are above any level.
- **Candidates** are 26-connected components of enhancing voxels, at least four voxels large.
- A **lesion** is a 26-connected component of the lesion mask, its size the diameter of the sphere of its volume. It is
  detected where candidates cover a quarter of it. Sensitivity is the share that is, by size (<5, 5–10, >10 mm).
- A **false positive** is a candidate in the virtual image that touches neither a lesion nor anything that enhances in
  the full dose itself: vessels, meninges and choroid plexus enhance in earnest. Counted per subject, by size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from model.cohort import Mask

FloatArray = NDArray[np.float32]
SMOOTHING = 0.7
SMALLEST = 4
COVERED = 0.25
ROSE = 5.0
LEVELS = np.linspace(0.02, 0.6, 100)
SIZES_MM = ((0.0, 5.0), (5.0, 10.0), (10.0, math.inf))
SIZE_NAMES = ("<5 mm", "5–10 mm", ">10 mm")
_EVERY_NEIGHBOUR = np.ones((3, 3, 3))


@dataclass(frozen=True)
class Lesion:
    """One lesion and whether it is seen in the virtual image, and in the full dose: no more can be asked."""

    diameter_mm: float
    in_virtual: bool
    in_full_dose: bool


@dataclass(frozen=True)
class Detection:
    """What is seen in one subject's virtual image: its lesions, and the diameters (mm) of its false positives."""

    lesions: tuple[Lesion, ...]
    false_positives_mm: tuple[float, ...]


def enhancement(image: FloatArray, t1: FloatArray, brain: Mask) -> FloatArray:
    """The smoothed difference to T1 (z, y, x), zero outside the brain."""
    smooth: FloatArray = gaussian_filter(np.where(brain, image - t1, np.float32(0)), SMOOTHING)
    return np.where(brain, smooth, np.float32(0))


def enhancing(image: FloatArray, brain: Mask, level: float) -> Mask:
    """Where an enhancement map (z, y, x) exceeds the level and the noise."""
    values = image[brain]
    noise = 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0
    return np.asarray(image > max(level, ROSE * noise))


def fit_level(subjects: Iterable[tuple[FloatArray, Mask]]) -> float:
    """The level of the highest pooled Dice from (enhancement of the full dose, lesion mask) pairs; NaN where no subject
    has a lesion."""
    edges = np.concatenate([LEVELS, [np.inf]])
    inside, everywhere, lesions = np.zeros(len(LEVELS)), np.zeros(len(LEVELS)), 0
    for image, lesion in subjects:
        everywhere += np.histogram(image, edges)[0]
        inside += np.histogram(image[lesion], edges)[0]
        lesions += int(lesion.sum())
    if lesions == 0:
        return math.nan
    hit, marked = (np.cumsum(counts[::-1])[::-1] for counts in (inside, everywhere))
    return float(LEVELS[np.argmax(2 * hit / (marked + lesions))])


def detect(virtual: Mask, full_dose: Mask, lesion: Mask, voxel_mm: float) -> Detection:
    """From where the virtual image and the full dose enhance, and the lesion mask, all (z, y, x)."""
    seen, seen_in_full = _candidates(virtual), full_dose
    in_virtual, in_full = seen > 0, _candidates(seen_in_full) > 0
    true, count = label(lesion, _EVERY_NEIGHBOUR)
    found = tuple(
        Lesion(
            diameter_mm(int(where.sum()), voxel_mm),
            bool(in_virtual[where].mean() >= COVERED),
            bool(in_full[where].mean() >= COVERED),
        )
        for where in (true == number for number in range(1, count + 1))
    )
    touched = set(np.unique(seen[lesion | seen_in_full]).tolist())
    voxels = np.bincount(seen.ravel())
    touched.add(0)
    false = tuple(
        diameter_mm(int(size), voxel_mm) for number, size in enumerate(voxels) if size and number not in touched
    )
    return Detection(found, false)


def diameter_mm(voxels: int, voxel_mm: float) -> float:
    """The diameter of the sphere that has the volume of so many voxels."""
    return float((6 * voxels / math.pi) ** (1 / 3) * voxel_mm)


def size_of(diameter: float) -> int:
    """Which of ``SIZES_MM`` a diameter falls in."""
    return next(place for place, (low, high) in enumerate(SIZES_MM) if low <= diameter < high)


def _candidates(mask: Mask) -> NDArray[np.int32]:
    """The components of the mask, numbered; small ones are zero."""
    numbered, _ = label(mask, _EVERY_NEIGHBOUR)
    small = np.bincount(numbered.ravel()) < SMALLEST
    numbered[small[numbered]] = 0
    result: NDArray[np.int32] = numbered.astype(np.int32)
    return result
