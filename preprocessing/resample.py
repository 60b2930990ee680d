"""One interpolation of a volume onto another grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from preprocessing.volume import Geometry, Volume, from_sitk, to_sitk

Matrix = NDArray[np.float64]


def resample(
    volume: Volume,
    like: Geometry | None = None,
    spacing: float | None = None,
    transform: Matrix | None = None,
    interpolator: int = sitk.sitkLinear,
    outside: float = 0.0,
) -> Volume:
    """``volume`` on the grid ``like``, or on its own axes and extent with isotropic ``spacing`` in mm.

    ``transform`` (4 × 4) takes a point of the new grid (LPS mm) to a point of ``volume``; identity when absent.
    Voxels that ``volume`` does not cover get ``outside``.
    """
    grid = like if like is not None else isotropic(volume.geometry, spacing or min(volume.geometry.spacing))
    image = sitk.Resample(
        to_sitk(volume), grid.size, itk_affine(np.eye(4) if transform is None else transform), interpolator,
        grid.origin, grid.spacing, grid.direction, outside, sitk.sitkFloat32,
    )
    return from_sitk(image, grid.frame_of_reference_uid, volume.source)


def isotropic(geometry: Geometry, spacing: float) -> Geometry:
    """The same box of space in voxels of ``spacing`` mm along each axis (sizes rounded)."""
    old = np.asarray(geometry.spacing)
    size = np.maximum(1, np.round(np.asarray(geometry.size) * old / spacing).astype(int))
    first = (size - 1) * spacing / 2
    middle = (np.asarray(geometry.size) - 1) * old / 2
    origin = np.asarray(geometry.origin) + np.reshape(geometry.direction, (3, 3)) @ (middle - first)
    return Geometry(
        (int(size[0]), int(size[1]), int(size[2])), (float(origin[0]), float(origin[1]), float(origin[2])),
        (spacing,) * 3, geometry.direction, geometry.frame_of_reference_uid,
    )


def standard_orientation(volume: Volume) -> Volume:
    """The volume with its axes permuted and flipped, not interpolated, so that i, j, k run nearest to L, A, S.

    This is how FSL's ``fslreorient2std`` stores an image with radiological left and right, and how HD-BET expects it.
    """
    image = sitk.DICOMOrient(to_sitk(volume), "LAS")
    return from_sitk(image, volume.geometry.frame_of_reference_uid, volume.source)


def inverse(matrix: Matrix) -> Matrix:
    """The way back."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def itk_affine(matrix: Matrix) -> sitk.AffineTransform:
    """A 4 × 4 matrix of LPS mm as ITK's transform."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def matrix_of(transform: sitk.Transform) -> Matrix:
    """The 4 × 4 matrix of any linear ITK transform, whatever its centre."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        unit = [0.0, 0.0, 0.0]
        unit[axis] = 1.0
        matrix[:3, axis] = np.asarray(transform.TransformPoint(unit)) - matrix[:3, 3]
    return matrix
