"""Motion and other ghosts: signal displaced along one axis into the air beside the head.

The American College of Radiology's phantom test compares the background beside the phantom along the phase-encoding
direction with that along the other one (percent signal ghosting). Here the axis is not asked for, since 3D sequences
have two and headers often name none: the one with the most is taken.
"""

from __future__ import annotations

import numpy as np

from preprocessing.quality.surroundings import FEWEST, Surroundings


def ghosting(around: Surroundings) -> float:
    """Root mean square signal in the air beside the brain, along the worst axis, beyond that of air in no line with it.

    In per cent of white matter; NaN where there is no air to look at.
    """
    if around.masked:
        return float("nan")
    beside = []
    for axis in range(3):
        shadow = around.air & around.brain.any(axis=axis, keepdims=True)
        if shadow.sum() >= FEWEST:
            beside.append(float(around.power[shadow].mean()))
    if not beside:
        return float("nan")
    return 100 * float(np.sqrt(max(max(beside) - around.noise_power, 0.0))) / around.white
