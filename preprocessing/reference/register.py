"""Registration in SimpleITK: one patient's series to the T1 (rigid), and the T1's brain to the MNI152 brain (affine).

Mutual information (Mattes) from coarse to fine. Every matrix returned is 4 × 4 in LPS mm and takes a point of the fixed
image to a point of the moving one, so that matrices compose from the network grid outwards: native = rigid @ affine.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.grid import template, template_brain
from preprocessing.resample import Matrix, inverse, isotropic, matrix_of, resample
from preprocessing.volume import Geometry, Volume, from_sitk, to_sitk

BINS = 32
SEED = 20210
SAMPLES = 30_000  # points of the fixed image that one evaluation of the metric looks at
SEARCH, COARSE, FINE = 8.0, 4.0, 2.0  # mm, the fixed image's grids
# Between two series a patient may have moved, or have been put on the table again: the poses to start from.
SHIFTS = list(product((-15.0, 0.0, 15.0), (-20.0, 0.0, 20.0), (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)))  # mm
NODS = (-0.25, 0.0, 0.25)  # radians about the left-right axis, the head's easiest rotation
STARTS = 4
OVERLAP = 0.25  # share of the brain's region that a series must show; a slab may show no more
SHORTEST = 4  # voxels that ITK's recursive filter needs along an axis
MARGIN = 8.0  # mm of scalp and skull around the brain: their edges help, the neck and jaw move on their own


class RegistrationError(ValueError):
    """Two series cannot be aligned; the text says which and why."""


def rigid(fixed: Volume, fixed_brain: NDArray[np.bool_], moving: Volume) -> Matrix:
    """Where a point of ``fixed`` (the T1) lies in ``moving``: rotation and translation of one head.

    The scanner's coordinates are the start, since one session shares a frame of reference; the result is kept only
    where the mutual information became better than at the start. ``fixed_brain`` has the shape of ``fixed``.
    Raises ``RegistrationError`` when the images do not overlap.
    """
    centre = centroid(fixed_brain, fixed.geometry)
    search, coarse, fine = (
        _Level(fixed, fixed_brain, MARGIN, moving, spacing, smooth)
        for spacing, smooth in ((SEARCH, 4.0), (COARSE, 2.0), (FINE, 0.0))
    )
    start = _pose(centre, (0.0, 0.0, 0.0), 0.0)
    poses = [_pose(centre, shift, nod) for shift in SHIFTS for nod in NODS]
    promising = [pose for pose in (start, *sorted(poses, key=search.cost)[:STARTS]) if search.overlap(pose) >= OVERLAP]
    if not promising:
        raise RegistrationError(
            f"cannot align {search.names}: they do not overlap in space. Check that both series are of the same study "
            "and that their positions in the headers are true."
        )
    arrived = min((coarse.optimise(search.optimise(pose, step=4.0), step=2.0) for pose in promising), key=coarse.cost)
    moved = fine.optimise(arrived, step=0.5)
    return matrix_of(min((start, moved), key=fine.cost))  # ``min`` keeps the first, the start, when they are equal


def affine_to_template(t1: Volume, brain: NDArray[np.bool_]) -> Matrix:
    """Where a point of the MNI152 template lies in ``t1``: 12 parameters, brain to brain.

    Starts from the brains' centres and sizes in several head tilts, so that the head's pose in the scanner does not
    matter as long as the orientation in the header is true. Raises ``RegistrationError`` when nothing matches.
    """
    moving = t1.with_array(np.where(brain, t1.array, 0))
    search, coarse, fine = (
        _Level(template(), template_brain(), COARSE, moving, spacing, smooth)
        for spacing, smooth in ((SEARCH, 4.0), (COARSE, 2.0), (FINE, 1.0))
    )
    tried = [search.optimise(_similar(t1, brain, nod), step=4.0) for nod in NODS]
    best = coarse.optimise(_as_affine(min(tried, key=search.cost)), step=2.0)
    return matrix_of(fine.optimise(best, step=0.5))


def centroid(mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float64]:
    """The mask's centre of mass in LPS mm."""
    index = np.asarray(ndimage.center_of_mass(mask))[::-1]
    return np.asarray((geometry.affine @ [*index, 1.0])[:3])


class _Level:
    """One resolution of one registration: the fixed image within ``margin`` mm of its brain, on an isotropic grid."""

    def __init__(
        self, fixed: Volume, brain: NDArray[np.bool_], margin: float, moving: Volume, spacing: float, smooth: float
    ) -> None:
        grid = isotropic(_box(brain, fixed.geometry, margin), spacing)
        coarse_brain = resample(fixed.with_array(brain), like=grid).array > 0.5
        inside = ndimage.distance_transform_edt(~coarse_brain, sampling=spacing) <= margin
        self.fixed = to_sitk(resample(_smoothed(fixed, smooth), like=grid))
        self.mask = sitk.GetImageFromArray(inside.astype(np.uint8))
        self.mask.CopyInformation(self.fixed)
        self.moving = to_sitk(_smoothed(moving, smooth))
        index = np.argwhere(inside)[:: max(1, int(inside.sum()) // 2000), ::-1]
        self.points = grid.affine @ np.c_[index, np.ones(len(index))].T
        self.to_moving = inverse(from_sitk(self.moving).geometry.affine)
        self.share = min(1.0, SAMPLES / max(1, int(inside.sum())))
        self.names = f"{moving.source or 'the moving image'} to {fixed.source or 'the fixed image'}"

    def cost(self, transform: sitk.Transform) -> float:
        """Minus the mutual information; infinite where the images hardly overlap, for there it means nothing."""
        if self.overlap(transform) < OVERLAP:
            return float("inf")
        method = self._method()
        method.SetInitialTransform(transform)
        return float(method.MetricEvaluate(self.fixed, self.moving))

    def overlap(self, transform: sitk.Transform) -> float:
        """The share of the fixed region that falls inside the moving image."""
        index = self.to_moving @ matrix_of(transform) @ self.points
        size = np.asarray(self.moving.GetSize())[:, None]
        return float(((index[:3] >= -0.5) & (index[:3] <= size - 0.5)).all(axis=0).mean())

    def optimise(self, start: sitk.Transform, step: float) -> sitk.Transform:
        """The transform of ``start``'s kind with the lowest cost near it; ``step`` is the first step in mm."""
        method = self._method()
        method.SetInitialTransform(start, inPlace=False)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step, minStep=step / 200, numberOfIterations=150, relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            found = method.Execute(self.fixed, self.moving)
        except RuntimeError as error:
            raise RegistrationError(
                f"cannot align {self.names}: {str(error).strip().splitlines()[-1]} "
                "Check that both series show the same head and that their positions in the headers are true."
            ) from error
        return found.GetNthTransform(0) if isinstance(found, sitk.CompositeTransform) else found

    def _method(self) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(sitk.sitkLinear)
        # The filter differentiates the whole moving image at every call; the points that are sampled are far fewer.
        method.SetMetricUseMovingImageGradientFilter(False)
        if self.share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(self.share, seed=SEED)
        return method


def _pose(centre: NDArray[np.float64], shift: tuple[float, float, float], nod: float) -> sitk.Euler3DTransform:
    pose = sitk.Euler3DTransform()
    pose.SetCenter(centre.tolist())
    pose.SetTranslation(shift)
    pose.SetRotation(nod, 0.0, 0.0)
    return pose


def _similar(t1: Volume, brain: NDArray[np.bool_], nod: float) -> sitk.Similarity3DTransform:
    """The start: centres on each other, the cube root of the volumes as scale, a nod of ``nod`` radians."""
    here, there = centroid(template_brain(), template().geometry), centroid(brain, t1.geometry)
    start = sitk.Similarity3DTransform()
    start.SetCenter(here.tolist())
    start.SetTranslation((there - here).tolist())
    start.SetRotation((1.0, 0.0, 0.0), nod)
    ratio = _millilitres(brain, t1.geometry) / _millilitres(template_brain(), template().geometry)
    start.SetScale(float(np.cbrt(ratio)))
    return start


def _as_affine(transform: sitk.Transform) -> sitk.AffineTransform:
    similar = sitk.Similarity3DTransform(transform)
    found = sitk.AffineTransform(3)
    found.SetCenter(similar.GetCenter())
    found.SetMatrix(similar.GetMatrix())
    found.SetTranslation(similar.GetTranslation())
    return found


def _millilitres(mask: NDArray[np.bool_], geometry: Geometry) -> float:
    return float(mask.sum() * np.prod(geometry.spacing) / 1000)


def _smoothed(volume: Volume, sigma: float) -> Volume:
    """Gaussian smoothing of ``sigma`` mm, less along an axis whose voxels are already that coarse.

    Voxels are averaged in blocks of about ``sigma`` mm first: the same result from a hundredth of the voxels.
    """
    if sigma == 0:
        return volume
    blocks = [max(1, min(round(sigma / spacing), size)) for spacing, size in zip(
        volume.geometry.spacing, volume.geometry.size, strict=True)]
    image = sitk.BinShrink(to_sitk(volume), blocks)
    for axis, spacing in enumerate(image.GetSpacing()):
        own = spacing / 2.355  # a voxel averages like a Gaussian of about this sigma
        if sigma > own and image.GetSize()[axis] >= SHORTEST:
            image = sitk.RecursiveGaussian(image, float(np.sqrt(sigma**2 - own**2)), direction=axis)
    return from_sitk(image, volume.geometry.frame_of_reference_uid, volume.source)


def _box(mask: NDArray[np.bool_], geometry: Geometry, margin: float) -> Geometry:
    """The part of the grid, continued where necessary, that holds the mask and ``margin`` mm around it."""
    if not mask.any():
        raise RegistrationError("the mask to register is empty: check the brain extraction")
    around = [np.flatnonzero(mask.any(axis=axes))[[0, -1]] for axes in ((0, 1), (0, 2), (1, 2))]  # i, j, k
    extra = np.ceil(margin / np.asarray(geometry.spacing))
    low = np.asarray([ends[0] for ends in around]) - extra
    size = np.asarray([ends[1] for ends in around]) + extra + 1 - low
    origin = (geometry.affine @ [*low, 1.0])[:3]
    return Geometry(
        (int(size[0]), int(size[1]), int(size[2])), (float(origin[0]), float(origin[1]), float(origin[2])),
        geometry.spacing, geometry.direction, geometry.frame_of_reference_uid,
    )
