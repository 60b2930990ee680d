"""Spikes: single wrong points of k-space, which lay a regular pattern (herringbone) over the image."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy import ndimage

from preprocessing.volume import FloatArray

GUARD, RING = 5, 11  # points: the inner square is the point's own, the ring around it is its neighbourhood
AXIS = 3  # lines of k-space beside the axes, where edges of the field of view leave their mark
MIDDLE = 0.05  # share of k-space along each axis that is the picture itself


def spikes(array: FloatArray) -> float:
    """How far the most isolated point of k-space stands above the strongest of its neighbours, in dB.

    ``array`` [k, j, i] is a magnitude image. Its slices' 2D transforms are looked at one by one (2D imaging: the spike
    is in one slice) and in their mean power (3D imaging: it is in all). Noise and anatomy have no isolated points; zero
    filling has edges, but their neighbours are as strong.
    """
    power = np.abs(scipy.fft.rfft2(array.astype(np.float32), axes=(1, 2)))
    together = np.sqrt(np.mean(np.square(power), axis=0, keepdims=True))
    return max(_isolation(power), _isolation(together))


def _isolation(magnitude: FloatArray) -> float:
    """The largest ratio of a point to the maximum of its ring; ``magnitude`` holds half spectra."""
    rows, columns = magnitude.shape[1:]
    side, far = (RING - GUARD) // 2, (RING + GUARD) // 4
    wide = ndimage.maximum_filter1d(magnitude, RING, axis=2, mode="wrap")
    tall = ndimage.maximum_filter1d(magnitude, RING, axis=1, mode="wrap")
    wide = ndimage.maximum_filter1d(wide, side, axis=1, mode="wrap")
    tall = ndimage.maximum_filter1d(tall, side, axis=2, mode="wrap")
    sides = [np.roll(wide, shift, axis=1) for shift in (far, -far)]
    sides += [np.roll(tall, shift, axis=2) for shift in (far, -far)]
    ring = np.maximum.reduce(sides)
    row, column = np.abs(np.fft.fftfreq(rows) * rows)[:, None], np.arange(columns)
    middle = (row < MIDDLE * rows) & (column < MIDDLE * columns)
    # At the half spectrum's far end the neighbours are those of its beginning.
    looked_at = (row > AXIS) & (column > AXIS) & (column < columns - RING // 2) & ~middle
    floor = 1e-6 * float(magnitude.max()) + np.finfo(np.float32).tiny
    ratio = np.where(looked_at, magnitude / np.maximum(ring, floor), 0)
    return 20 * float(np.log10(max(float(ratio.max()), 1e-3)))
