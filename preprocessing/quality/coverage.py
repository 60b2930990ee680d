"""Whether the series show the whole brain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.grid import NETWORK_GRID
from preprocessing.resample import Matrix, inverse
from preprocessing.volume import Geometry

Mask = NDArray[np.bool_]


def inside_view(geometry: Geometry, transform: Matrix, depth: float = 0.0) -> Mask:
    """Which points of the network grid the series shows, ``depth`` mm away from its border and more."""
    matrix = inverse(geometry.affine) @ transform @ NETWORK_GRID.affine
    i, j, k = (np.arange(n, dtype=np.float32) for n in NETWORK_GRID.size)
    inside = np.ones(NETWORK_GRID.size[::-1], dtype=bool)
    for axis, (length, spacing) in enumerate(zip(geometry.size, geometry.spacing, strict=True)):
        row = matrix[axis].astype(np.float32)
        index = row[2] * k[:, None, None] + (row[1] * j[:, None] + (row[0] * i + row[3]))
        edge = depth / spacing - 0.5
        inside &= (index >= edge) & (index <= length - 1 - edge)
    return inside


def coverage(brain: Mask, seen: Mask) -> float:
    """Per cent of the brain that is seen. For ``brain`` take the study's and the template's together: what T1 itself
    does not show is in no mask made of it."""
    return 100 * float((brain & seen).sum() / max(int(brain.sum()), 1))


def overlap(brain: Mask, seen: Sequence[Mask]) -> float:
    """Per cent of the brain that every series sees."""
    return coverage(brain, np.logical_and.reduce(list(seen)))


def brain_cut(brain: Mask, geometry: Geometry, transform: Matrix) -> float:
    """Area in cm² of brain where the field of view ends: a section through the brain, 0 when there is skull around it.

    The mask's volume within 2 mm of the border, inside and outside, over those 4 mm.
    """
    border = inside_view(geometry, transform, -2.0) & ~inside_view(geometry, transform, 2.0)
    # A mask's own roughness at a border it merely touches is no section.
    solid = ndimage.binary_opening(brain & border, iterations=1)
    volume = abs(float(np.linalg.det(transform[:3, :3])))
    return float(solid.sum()) * volume / 4.0 / 100.0
