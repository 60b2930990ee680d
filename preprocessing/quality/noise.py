"""Signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from preprocessing.quality.surroundings import Surroundings


def noise(around: Surroundings) -> float:
    """The noise's standard deviation in each channel, from the air; NaN when the scanner masked it.

    In air the magnitude of Gaussian noise is Rayleigh distributed: its mean square is 2 σ² (Gudbjartsson and Patz 1995;
    the same σ as the air's standard deviation over 0.655).
    """
    return float(np.sqrt(around.noise_power / 2))


def signal_to_noise(around: Surroundings) -> float:
    """The median signal of deep white matter over the noise's standard deviation."""
    return around.white / noise(around)
