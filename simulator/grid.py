"""Regular grids in the patient's LPS coordinates: the head's own 1 mm grid, and the grids that scanners sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """``size`` voxels along (i, j, k) = (columns, rows, slices); ``affine`` maps voxel index to LPS mm.

    ``affine`` is a 4 × 4 matrix as nested tuples so that grids compare and hash. The slice axis may make the system
    left-handed: Siemens numbers sagittal slices from right to left, against the cross product of row and column.
    """

    size: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @staticmethod
    def of(size: tuple[int, int, int], directions: Matrix, spacing: tuple[float, float, float], centre: Matrix) -> Grid:
        """A grid around ``centre`` (LPS mm); the columns of ``directions`` are the unit vectors of i, j and k."""
        scaled = np.asarray(directions, dtype=np.float64) * np.asarray(spacing)
        origin = np.asarray(centre, dtype=np.float64) - scaled @ ((np.asarray(size) - 1) / 2)
        return Grid.from_matrix(size, np.vstack([np.column_stack([scaled, origin]), [0.0, 0.0, 0.0, 1.0]]))

    @staticmethod
    def from_matrix(size: tuple[int, int, int], matrix: Matrix) -> Grid:
        """A grid from its size and its 4 × 4 voxel-to-LPS matrix."""
        return Grid(size, tuple(tuple(float(value) for value in row) for row in matrix))

    @property
    def matrix(self) -> Matrix:
        """Voxel index (i, j, k, 1) to LPS mm."""
        return np.array(self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an array on this grid, indexed [k, j, i]."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j and k, mm."""
        i, j, k = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def directions(self) -> Matrix:
        """Unit vectors of i, j and k as columns."""
        return np.asarray(self.matrix[:3, :3] / np.asarray(self.spacing))

    @property
    def origin(self) -> Matrix:
        """Centre of the first voxel, LPS mm."""
        return self.matrix[:3, 3]

    @property
    def centre(self) -> Matrix:
        """Centre of the whole grid, LPS mm."""
        return self.point((np.asarray(self.size) - 1) / 2)

    def point(self, index: Any) -> Matrix:
        """LPS mm of one (i, j, k) index."""
        return np.asarray(self.matrix[:3, :3] @ np.asarray(index, dtype=np.float64) + self.matrix[:3, 3])

    def refined(self, factors: tuple[int, int, int]) -> Grid:
        """Each voxel split into ``factors`` cells along (i, j, k)."""
        fine = self.matrix
        fine[:3, 3] = self.point([(1 / factor - 1) / 2 for factor in factors])
        fine[:3, :3] = fine[:3, :3] / np.asarray(factors)
        i, j, k = (n * factor for n, factor in zip(self.size, factors, strict=True))
        return Grid.from_matrix((i, j, k), fine)


def axis_aligned(size: tuple[int, int, int], origin: tuple[float, float, float], spacing: float = 1.0) -> Grid:
    """A grid along the patient axes: i to the left, j to posterior, k to superior."""
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = origin
    return Grid.from_matrix(size, matrix)


def to_image(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """A SimpleITK image of an array [k, j, i] on ``grid``."""
    if array.shape != grid.shape:
        raise ValueError(f"array {array.shape} does not fit a grid of {grid.shape} (k, j, i)")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin([float(v) for v in grid.origin])
    image.SetDirection([float(v) for v in grid.directions.ravel()])
    return image


def affine_transform(matrix: Matrix) -> sitk.AffineTransform:
    """A 4 × 4 LPS matrix as a SimpleITK transform (output point to input point, as resampling wants it)."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([float(v) for v in matrix[:3, :3].ravel()])
    transform.SetTranslation([float(v) for v in matrix[:3, 3]])
    return transform


def resample(
    array: NDArray[Any],
    grid: Grid,
    target: Grid,
    transform: sitk.Transform | None = None,
    nearest: bool = False,
) -> NDArray[Any]:
    """Values of ``array`` at the voxel centres of ``target``; zero outside.

    ``transform`` maps LPS points of the target to LPS points of the source; identity when missing.
    """
    return sample(to_image(array, grid), target, transform, nearest)


def sample(
    image: sitk.Image,
    target: Grid,
    transform: sitk.Transform | None = None,
    nearest: bool = False,
) -> NDArray[Any]:
    """As :func:`resample`, from an image that is there already."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in target.size])
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin([float(v) for v in target.origin])
    resampler.SetOutputDirection([float(v) for v in target.directions.ravel()])
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetTransform(transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity))
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))
