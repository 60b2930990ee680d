"""Making new heads out of old ones: mirror, turn, scale and bend a label map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from simulator.grid import Grid, Matrix, affine_transform, resample, to_image
from simulator.heads import Head
from simulator.randomness import smooth_field, truncated_normal


@dataclass(frozen=True)
class DeformationSettings:
    """``scale`` relative, per axis; ``turn`` in degrees; ``bend`` in mm with structures of ``bend_scale`` mm."""

    scale: float = 0.08
    turn: float = 8.0
    bend: float = 2.2
    bend_scale: float = 50.0
    mirror: bool = True


def rotation(degrees: NDArray[np.float64]) -> Matrix:
    """3 × 3 rotation about the i, j and k axes in turn."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def deformed(head: Head, rng: np.random.Generator, settings: DeformationSettings) -> Head:
    """A head like ``head`` but another person's; zero strength gives the same labels back."""
    source = head.mirrored() if settings.mirror and rng.random() < 0.5 else head
    grid = _mirrored_grid(head.grid) if source is not head else head.grid
    matrix = np.eye(4)
    factors = np.array([truncated_normal(rng, settings.scale) for _ in range(3)])
    # Heads nod (about the left-right axis) more than they tilt or turn.
    angles = np.array([1.0, 0.5, 0.5]) * rng.uniform(-settings.turn, settings.turn, 3)
    matrix[:3, :3] = np.diag(1 / factors) @ rotation(angles)
    if settings.bend == 0:
        return Head(
            resample(source.structures, grid, head.grid, affine_transform(matrix), nearest=True), head.grid, head.name
        )
    coarse = Grid.of(
        (head.grid.size[0] // 4 + 1, head.grid.size[1] // 4 + 1, head.grid.size[2] // 4 + 1),
        np.eye(3),
        (4.0, 4.0, 4.0),
        head.grid.centre,
    )
    bend = np.stack([smooth_field(rng, coarse, settings.bend_scale) for _ in range(3)], axis=-1) * settings.bend
    # The affine is folded into the field, so that the large map is read only once and with one interpolation.
    k, j, i = np.meshgrid(*[np.arange(n) for n in coarse.shape], indexing="ij")
    points = np.stack([i, j, k], axis=-1) @ coarse.matrix[:3, :3].T + coarse.origin
    displacement = points @ matrix[:3, :3].T - points + bend
    field = sitk.GetImageFromArray(displacement.astype(np.float64), isVector=True)
    field.CopyInformation(to_image(np.zeros(coarse.shape, dtype=np.uint8), coarse))
    warped = resample(source.structures, grid, head.grid, sitk.DisplacementFieldTransform(field), nearest=True)
    return Head(warped, head.grid, head.name)


def _mirrored_grid(grid: Grid) -> Grid:
    """The grid of an array whose i axis was reversed, mirrored at LPS x = 0."""
    matrix = grid.matrix
    matrix[0, 3] = -(grid.origin[0] + (grid.size[0] - 1) * grid.spacing[0])
    return Grid.from_matrix(grid.size, matrix)
