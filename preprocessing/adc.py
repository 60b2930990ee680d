"""The apparent diffusion coefficient: fitted from the diffusion series, or taken from the scanner's own map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.volume import Volume

# Water at body temperature diffuses at 3.1e-3 mm²/s; ten times that is no tissue in any unit but a smaller one.
LARGEST = 0.03
CEILING = 5e-3  # mm²/s: above free water at any fever; only noise fits to more


class AdcError(ValueError):
    """No ADC can be computed; the text says why."""


def adc_map(b_values: Sequence[float], volumes: Sequence[Volume]) -> Volume:
    """The log-linear least-squares fit S(b) = S0 exp(−b ADC) over all b-values (s/mm²), in mm²/s.

    Voxels without signal at the lowest b-value become 0. A zero at a higher one counts as half that volume's smallest
    signal: free water at high b is rounded to zero, and its ADC is large, not none. The result is kept within
    0 … 5e-3 mm²/s: beyond lies only noise.
    Raises ``AdcError`` for fewer than two b-values, b-values that do not differ, or volumes on different grids.
    """
    if len(b_values) != len(volumes):
        raise AdcError(f"{len(b_values)} b-values for {len(volumes)} volumes: each volume needs one")
    if len(volumes) < 2 or max(b_values) - min(b_values) < 100:
        raise AdcError(f"b-values {list(b_values)} s/mm² give no ADC: at least two, 100 or more apart, are needed")
    first = volumes[0]
    for volume in volumes[1:]:
        if volume.geometry != first.geometry:
            raise AdcError(f"the volumes of {first.source or 'the diffusion series'} lie on different grids")
    b = np.asarray(b_values, dtype=np.float64)
    weights = -(b - b.mean()) / np.square(b - b.mean()).sum()
    signal = volumes[int(b.argmin())].array > 0
    slope = np.zeros(first.array.shape)
    for weight, volume in zip(weights, volumes, strict=True):
        values = volume.array[signal].astype(np.float64)
        if not (values > 0).any():
            raise AdcError(f"{volume.source or 'the diffusion series'} has an empty volume: send the series again")
        slope[signal] += weight * np.log(np.maximum(values, values[values > 0].min() / 2))
    return first.with_array(np.clip(slope, 0.0, CEILING))


def scanner_adc(volume: Volume) -> Volume:
    """A scanner's ADC map in mm²/s, whatever unit its integers were in.

    Vendors store 1e-6 mm²/s (Siemens, GE, UIH), 1e-3 mm²/s (Philips with its rescale slope) or mm²/s, and few name the
    unit in the header. A head's median decides: brain lies near 0.8e-3 mm²/s, so the three are a factor of 1000 apart.
    Raises ``AdcError`` when the map holds no positive values or fits none of the units.
    """
    positive = volume.array[volume.array > 0]
    if positive.size == 0:
        raise AdcError(f"{volume.source or 'the ADC map'} holds no value above zero")
    median = float(np.median(positive))
    for unit in (1.0, 1e-3, 1e-6):
        if 1e-4 <= median * unit < LARGEST:
            return volume.with_array(np.clip(volume.array * unit, 0.0, CEILING))
    raise AdcError(
        f"{volume.source or 'the ADC map'} has a median of {median:g}, which is no plausible ADC in mm²/s, 1e-3 mm²/s "
        "or 1e-6 mm²/s: use the diffusion series instead"
    )
