"""From the network's grid back to a scanner's own grid and units."""

from __future__ import annotations

import numpy as np

from preprocessing.grid import NETWORK_GRID, NETWORK_SHAPE
from preprocessing.resample import inverse, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import FloatArray, Geometry, Role, Volume


def native(
    array: FloatArray, prepared: PreparedStudy, reference: Geometry, role: Role = Role.LOW_DOSE, source: str = "",
    background: Volume | None = None,
) -> Volume:
    """A network-grid image in the geometry and units of the ``role`` series.

    ``array`` (160, 192, 160) is in unit scale; ``reference`` is the grid of that series. One linear interpolation. The
    values are the series' own units after N4 (whose field has mean 1). Outside the brain mask, and that includes all
    that lies outside the network's field, the result is 0, for the network knows nothing there, or ``background`` (on
    the same grid) where one is given. Raises ``ValueError`` for another shape, an unknown role or a background on
    another grid.
    """
    if array.shape != NETWORK_SHAPE:
        raise ValueError(f"the image is {array.shape}, the network grid {NETWORK_SHAPE}")
    if role not in prepared.transforms or role not in prepared.scales:
        raise ValueError(f"the study was prepared without a {role} series: choose one of {sorted(prepared.scales)}")
    if background is not None and background.geometry.size != reference.size:
        raise ValueError(f"the background has {background.geometry.size} voxels, the reference {reference.size}")
    back = inverse(prepared.transforms[role])
    brain = prepared.brain.astype(np.float32)
    # The image is zero outside the brain. Interpolating it and its mask alike and dividing gives a voxel at the rim the
    # mean of its neighbours inside the brain, not a mean with zeros that would draw a dark line around the cortex.
    value, weight = (
        resample(Volume(part, NETWORK_GRID), like=reference, transform=back).array for part in (array * brain, brain)
    )
    inside = weight >= 0.5
    result = np.zeros_like(value) if background is None else background.array.copy()
    result[inside] = prepared.scales[role].from_unit(value[inside] / weight[inside])
    return Volume(result, reference, source)
