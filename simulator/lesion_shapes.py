"""Lumps: ellipsoids with an uneven surface, described by how deep each voxel lies in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.deformation import rotation
from simulator.grid import axis_aligned
from simulator.randomness import smooth_field


@dataclass(frozen=True)
class Place:
    """Voxel (k, j, i) of the centre, and radius in mm."""

    centre: tuple[int, int, int]
    radius: float


@dataclass(frozen=True)
class Lump:
    """``depth`` is 0 at the centre and 1 on the surface; ``roughness`` is a random field of unit deviation.

    Both are arrays over ``box`` of the whole map.
    """

    box: tuple[slice, slice, slice]
    depth: NDArray[np.float32]
    roughness: NDArray[np.float32]


def lump(rng: np.random.Generator, shape: tuple[int, ...], place: Place, irregular: float) -> Lump:
    """A lump at ``place`` in a map of ``shape`` (1 mm); ``irregular`` is the surface's relative deviation."""
    reach = int(np.ceil(place.radius * 2.2)) + 4
    starts = [max(c - reach, 0) for c in place.centre]
    stops = [min(c + reach + 1, n) for c, n in zip(place.centre, shape, strict=True)]
    box = (slice(starts[0], stops[0]), slice(starts[1], stops[1]), slice(starts[2], stops[2]))
    size = [b.stop - b.start for b in box]
    grid = axis_aligned((size[2], size[1], size[0]), (0.0, 0.0, 0.0))
    axes = np.exp(rng.normal(0, 0.12, 3))
    turn = rotation(rng.uniform(-90, 90, 3))
    offsets = np.stack(
        np.meshgrid(*[np.arange(b.start, b.stop) - c for b, c in zip(box, place.centre, strict=True)], indexing="ij"),
        axis=-1,
    )
    scaled = (offsets @ turn) / (axes * place.radius)
    # Surface bumps of about half a radius; finer roughness is what breaks rims.
    bumps = np.clip(smooth_field(rng, grid, max(place.radius * 0.7, 2.0)), -1.4, 1.4)
    roughness = smooth_field(rng, grid, max(place.radius * 0.5, 2.0))
    depth = np.linalg.norm(scaled, axis=-1) * (1 + irregular * bumps)
    return Lump(box, depth.astype(np.float32), roughness)
