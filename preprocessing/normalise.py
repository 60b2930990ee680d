"""Intensities of one series to [0, 1] by the statistics of its brain, and back (paper, section 2).

The paper normalises "using the signal statistics of the brain content", clips "extreme values" and maps linearly to
[0, 1]; it names no limits. Ours are z-scores of −3 and +7: noise and CSF stay above −3, and an enhancing lesion, five
to six standard deviations above the brain's mean in a full-dose T1, stays below +7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.volume import FloatArray

LOW, HIGH = -3.0, 7.0


class NormalisationError(ValueError):
    """The brain's intensities cannot be scaled; the text says why."""


@dataclass(frozen=True)
class IntensityScale:
    """``mean`` and ``sd`` of one series' brain in the series' units, clip limits ``low`` and ``high`` in sd."""

    mean: float
    sd: float
    low: float = LOW
    high: float = HIGH

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.sd) and self.sd > 0):
            raise NormalisationError(f"mean {self.mean}, sd {self.sd}: the brain needs varying, finite values")
        if not self.low < self.high:
            raise NormalisationError(f"the lower clip limit {self.low} must be below the upper one {self.high}")

    def to_unit(self, array: NDArray[np.floating]) -> FloatArray:
        """The series' units to [0, 1]; values beyond the clip limits become 0 or 1."""
        z = (np.asarray(array, dtype=np.float64) - self.mean) / self.sd
        return np.clip((z - self.low) / (self.high - self.low), 0.0, 1.0).astype(np.float32)

    def from_unit(self, array: NDArray[np.floating]) -> FloatArray:
        """[0, 1] to the series' units: the exact inverse (to float32) of what ``to_unit`` did not clip."""
        z = np.asarray(array, dtype=np.float64) * (self.high - self.low) + self.low
        return (z * self.sd + self.mean).astype(np.float32)


def scale_of(
    array: NDArray[np.floating], brain: NDArray[np.bool_], low: float = LOW, high: float = HIGH
) -> IntensityScale:
    """The scale of a series from its values inside ``brain`` (same shape).

    Raises ``NormalisationError`` for an empty mask or a constant brain.
    """
    values = np.asarray(array, dtype=np.float64)[brain]
    if values.size == 0:
        raise NormalisationError("the brain mask covers no voxel of the series: check its registration")
    return IntensityScale(float(values.mean()), float(values.std()), low, high)
