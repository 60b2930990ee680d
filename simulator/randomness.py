"""Random streams that do not disturb one another, and the smooth random fields that shape anatomy and coils.

Every part of a subject draws from its own named stream, so a change in one part (one more lesion, say) leaves the
others as they were: the same seed keeps the same head.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from simulator.grid import Grid

FloatArray = NDArray[np.float32]


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of the part called ``name`` of the subject with ``seed`` (a non-negative integer)."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or a positive integer")
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def smooth_field(rng: np.random.Generator, grid: Grid, scale: float) -> FloatArray:
    """A random field on ``grid`` [k, j, i] with structures about ``scale`` mm large, zero mean and unit deviation.

    Normal deviates on a lattice of ``scale`` mm are the coefficients of cubic B-splines: smooth up to the second
    derivative, and separable, so that a field of ten million voxels costs three small matrix products.
    """
    bases = [_spline_basis(n, spacing / scale) for n, spacing in zip(grid.shape, grid.spacing[::-1], strict=True)]
    lattice = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = lattice
    for basis in bases:
        # Each product moves the axis that it refined to the end; after three, the order is [k, j, i] again.
        field = np.tensordot(field, basis, axes=([0], [1]))
    thinned = field[::2, ::2, ::2]
    return np.asarray((field - thinned.mean()) / max(float(thinned.std()), 1e-6), dtype=np.float32)


def _spline_basis(samples: int, step: float) -> FloatArray:
    """Values of the cubic B-splines of a unit lattice at ``samples`` positions ``step`` apart: (samples, splines)."""
    position = np.arange(samples) * step
    distance = np.abs(position[:, None] - np.arange(-1, int(np.floor(position[-1])) + 3)[None, :])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0)).astype(np.float32)


def truncated_normal(rng: np.random.Generator, spread: float) -> float:
    """A factor around 1 that never leaves 1 ± ``spread`` (spread is two standard deviations)."""
    return 1.0 + float(np.clip(rng.standard_normal() / 2, -1, 1)) * spread
