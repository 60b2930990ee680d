"""Wrap-around: what lies beyond the field of view comes back at its other side; then the head reaches the border."""

from __future__ import annotations

import numpy as np

from preprocessing.quality.surroundings import HEAD, Surroundings

UP_DOWN = 2


def wrap_around(around: Surroundings) -> float:
    """Area in cm² of signal at the worst of the faces left, right, front and back, above the level of the eyes.

    Above and below the head is cut in most series, and in slices nothing comes back; whether the brain was cut there is
    measured by itself.
    """
    bright = (around.power > (HEAD * around.white) ** 2) & around.cranium
    worst = 0.0
    for axis in range(3):
        if around.axes[axis] == UP_DOWN:
            continue
        area = float(np.prod([size for other, size in enumerate(around.size) if other != axis])) / 100
        worst = max(worst, *(float(np.take(bright, end, axis=axis).sum()) * area for end in (0, -1)))
    return worst
