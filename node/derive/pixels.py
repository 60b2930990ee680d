"""From a signal to unsigned 16-bit pixels and back, and the window that shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

from preprocessing.volume import FloatArray

MAXIMUM = 65535
_FEWEST_LEVELS = 500


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


def quantise(signal: FloatArray) -> StoredPixels:
    """Store the signal to within half a slope.

    The slope is 1 wherever that leaves enough grey levels, because some viewers overlook the slope of a multi-frame
    image; otherwise it is the smallest power of two that holds the maximum, because nobody rounds that. Below zero is
    stored as zero: a magnitude image has no negative signal. Raises ``ValueError`` if not finite.
    """
    if not np.isfinite(signal).all():
        raise ValueError("the virtual volume holds values that are not finite")
    highest = float(signal.max(initial=0.0))
    whole = highest == 0 or _FEWEST_LEVELS <= highest <= MAXIMUM
    slope = format_number_as_ds(1.0 if whole else 2.0 ** math.ceil(math.log2(highest / MAXIMUM)))
    stored = np.rint(np.asarray(signal, np.float64) / float(slope)).clip(0, MAXIMUM).astype(np.uint16)
    return StoredPixels(stored, slope)


def window_for(signal: NDArray[np.generic]) -> Window:
    """From the darkest fluid to the brightest half percent of the brain (the signal above zero).

    An empty picture gets the window 0 to 1.
    """
    brain = np.asarray(signal)[np.asarray(signal, np.float64) > 0]
    low, high = (float(value) for value in np.percentile(brain, (1.0, 99.5))) if brain.size else (0.0, 1.0)
    width = max(high - low, 1e-3)
    return Window(f"{(low + high) / 2:.6g}", f"{width:.6g}")
