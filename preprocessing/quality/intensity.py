"""What the signals say: spread, gain, contrast agent, bias field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocessing.normalise import IntensityScale
from preprocessing.volume import FloatArray

Mask = NDArray[np.bool_]
TAIL = 0.5  # per cent of the voxels that hold most of the agent or noise


def contrast(scale: IntensityScale) -> float:
    """Standard deviation over mean of the brain's signal."""
    return scale.sd / scale.mean if scale.mean > 0 else float("nan")


def gain(low_dose: IntensityScale, t1: IntensityScale) -> float:
    """The brain's mean signal in the low-dose series over that in T1."""
    return low_dose.mean / t1.mean if t1.mean > 0 else float("nan")


def enhancement(t1: FloatArray, low_dose: FloatArray, brain: Mask, white: Mask) -> float:
    """How much more the low-dose series gained than it lost anywhere in the brain, in per cent of white matter.

    Both arrays [k, j, i] on one grid, corrected for bias, or their two fields would be what differs most; ``white`` is
    deep white matter, which hardly takes up agent and is the unit. Vessels and lesions brighten, nothing darkens: the
    difference's upper tail outweighs its lower one. Noise and small misalignment have both tails alike; with the series
    exchanged it is negative. Outside the brain, fat and the edges of thick slices would speak louder.
    """
    if not (white & brain).any():
        return float("nan")
    first, second = (array / np.median(array[white & brain]) for array in (t1, low_dose))
    lower, upper = np.percentile((second - first)[brain], (TAIL, 100 - TAIL))
    return 100 * float(upper + lower)


def bias(raw: FloatArray, corrected: FloatArray, unit: FloatArray, brain: Mask) -> float:
    """Standard deviation of the bias field's logarithm inside the brain, in per cent.

    The field is what N4 divided by: ``raw`` over ``corrected``, where ``unit`` (the network's input) was not clipped.
    """
    known = brain & (unit > 0) & (unit < 1) & np.isfinite(raw) & (raw > 0) & (corrected > 0)
    if known.sum() < 1000:
        return float("nan")
    logarithm = np.log(raw[known] / corrected[known])
    low, high = np.percentile(logarithm, (1, 99))  # voxels at an edge of the field of view
    return 100 * float(np.std(np.clip(logarithm, low, high)))
