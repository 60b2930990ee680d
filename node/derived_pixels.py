"""From a signal to unsigned 16-bit pixels and back, and the window that shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

from preprocessing.volume import FloatArray

MAXIMUM = 65535


@dataclass(frozen=True)
class StoredPixels:
    """``signal = stored × slope`` (PS3.3 C.11.1, intercept 0); ``slope`` is the header's decimal string."""

    stored: NDArray[np.uint16]
    slope: str


@dataclass(frozen=True)
class Window:
    """VOI window (PS3.3 C.11.2) in the units of the signal."""

    center: str
    width: str


def quantise(signal: FloatArray, slope: float | None = None) -> StoredPixels:
    """Store the signal to within half a slope: if none is given, the smallest power of two that holds its maximum.

    A power of two, because no viewer rounds it. Below zero is stored as zero: a magnitude image has no negative signal.
    Raises ``ValueError`` if not finite.
    """
    if not np.isfinite(signal).all():
        raise ValueError("the virtual volume holds values that are not finite")
    if slope is None:
        highest = float(signal.max(initial=0.0))
        slope = 2.0 ** math.ceil(math.log2(highest / MAXIMUM)) if highest > 0 else 1.0
    text = format_number_as_ds(slope)
    stored = np.rint(np.asarray(signal, np.float64) / float(text)).clip(0, MAXIMUM).astype(np.uint16)
    return StoredPixels(stored, text)


def window_for(signal: NDArray[np.generic]) -> Window:
    """From the darkest fluid to the brightest half percent of the brain (the signal above zero).

    An empty picture gets the window 0 to 1.
    """
    brain = np.asarray(signal)[np.asarray(signal, np.float64) > 0]
    low, high = (float(value) for value in np.percentile(brain, (1.0, 99.5))) if brain.size else (0.0, 1.0)
    width = max(high - low, 1e-3)
    return Window(f"{(low + high) / 2:.6g}", f"{width:.6g}")
