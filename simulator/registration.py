"""Where a simulated brain lies in MNI space, found as the preprocessing would: an affine fit, brain to brain."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from simulator.grid import Grid, Matrix, axis_aligned, resample, to_image
from simulator.heads import AnatomyError

STEP_MM = 4.0


class RegistrationError(ValueError):
    """Two images cannot be aligned; the text says why."""


@cache
def template_brain() -> tuple[NDArray[np.float32], Grid]:
    """The skull-stripped ICBM 152 2009a T1 [k, j, i] at 4 mm, and its grid."""
    path = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise AnatomyError(f"nilearn does not carry {path.name}: install the version pinned in constraints.txt")
    values = np.asanyarray(nib.load(path).dataobj)[::-1, ::-1, :].transpose(2, 1, 0).astype(np.float32)
    k, j, i = values.shape
    # RAS x −98 … 98, y −134 … 98, z −72 … 116 are LPS −98, −98 and −72 at the first voxel.
    fine = axis_aligned((i, j, k), (-98.0, -98.0, -72.0))
    return _coarse(values, fine)


def _coarse(values: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.float32], Grid]:
    image = sitk.SmoothingRecursiveGaussian(to_image(values, grid), STEP_MM / 2)
    coarse = Grid.of(tuple(int(n / STEP_MM) + 2 for n in grid.size), np.eye(3), (STEP_MM,) * 3, grid.centre)  # type: ignore[arg-type]
    return resample(sitk.GetArrayFromImage(image), grid, coarse), coarse


def mni_to_head(brain_image: NDArray[np.float32], grid: Grid) -> Matrix:
    """4 × 4 LPS matrix from MNI points to the head's; ``brain_image`` is a T1 [k, j, i], zero outside the brain."""
    fixed_values, fixed_grid = template_brain()
    moving_values, moving_grid = _coarse(brain_image, grid)
    fixed, moving = to_image(fixed_values, fixed_grid), to_image(moving_values, moving_grid)
    start = sitk.AffineTransform(3)
    start.SetCenter([float(v) for v in _middle(fixed_values, fixed_grid)])
    start.SetTranslation([float(v) for v in _middle(moving_values, moving_grid) - _middle(fixed_values, fixed_grid)])
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over threads differ in their last bits; the same seed must give the same bytes
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 60, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(start.GetMatrix(), (3, 3))
    matrix[:3, 3] = start.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def rigid(
    fixed: NDArray[np.float32], fixed_grid: Grid, moving: NDArray[np.float32], moving_grid: Grid
) -> sitk.Transform:
    """How one head lies in two images of one session: maps LPS points of ``fixed`` to LPS points of ``moving``.

    Mutual information from coarse to fine, starting where the scanner says; for patients who moved between series.
    Raises ``RegistrationError`` when the images do not overlap or show nothing in common.
    """
    fixed_image, moving_image = to_image(fixed, fixed_grid), to_image(moving, moving_grid)
    start = sitk.Euler3DTransform()
    start.SetCenter([float(v) for v in fixed_grid.centre])
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # as above: the same bytes every time
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 100, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0, 0.0])
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed_image, moving_image)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"the two images show no head that could be aligned: {reason}") from error
    return start


def _middle(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    occupied = np.argwhere(values > values.max() * 0.1)
    centre = (occupied.min(axis=0) + occupied.max(axis=0)) / 2
    return grid.point(centre[::-1])
