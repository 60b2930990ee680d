"""A series ready to be written: its plan, its place, its pixels as integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.acquisition import Acquired
from simulator.protocol import Kind, SeriesPlan, Weighting
from simulator.scanner import Scanner, Vendor

COUNTS = {Vendor.SIEMENS: 400.0, Vendor.GE: 1600.0, Vendor.PHILIPS: 500.0}  # stored value of white matter
BITS = {Vendor.SIEMENS: 12, Vendor.GE: 16, Vendor.PHILIPS: 12}


@dataclass(frozen=True)
class StoredSeries:
    """``pixels`` are uint16 [k, j, i], one volume per weighting; value = stored × ``slope`` (1 if not rescaled).

    ``window`` is centre and width in rescaled values.
    """

    plan: SeriesPlan
    pixels: dict[Weighting, NDArray[np.uint16]]
    slope: float
    bits: int
    window: tuple[float, float]

    @property
    def instances(self) -> int:
        """Number of slices over all weightings."""
        return sum(volume.shape[0] for volume in self.pixels.values())


def stored(acquired: Acquired, scanner: Scanner, gain: float) -> StoredSeries:
    """Acquired magnitudes as integers; ``gain`` is the receiver's, a factor near 1 that differs between series."""
    bits = BITS[scanner.vendor]
    slope, counts = 1.0, COUNTS[scanner.vendor] * gain
    if acquired.plan.kind is Kind.ADC:
        # Siemens and GE write 1e-6 mm²/s; Philips rescales to 1e-3 mm²/s.
        counts, slope = 1e6, (1e-3 if scanner.vendor is Vendor.PHILIPS else 1.0)
    elif scanner.vendor is Vendor.PHILIPS:
        slope = round(0.8 + 0.5 * (gain - 0.9), 5)
    top = 2**bits - 1
    pixels = {w: np.clip(np.rint(volume * counts), 0, top).astype(np.uint16) for w, volume in acquired.volumes.items()}
    return StoredSeries(acquired.plan, pixels, slope, bits, window(next(iter(pixels.values())), slope))


def window(pixels: NDArray[np.uint16], slope: float) -> tuple[float, float]:
    """Centre and width that show almost all of the head."""
    sample = pixels[:, ::2, ::2]
    high = float(np.percentile(sample, 99)) * slope if sample.any() else 1.0
    high = max(high, 2 * slope)
    return round(high / 2, 4), round(high, 4)
