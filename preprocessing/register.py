"""Registration: one patient's series to the T1 (rigid), and the T1's brain to the MNI152 brain (affine).

Normalised mutual information of some thousand fixed points, optimised by L-BFGS with its analytic gradient: many poses
at 8 mm, the best of them at 4 mm, the best of those on the images as they are. Mutual information does not mind a bias
field, so the images are registered as they come. The points are the same at every run, and so is the result.

Every matrix returned is 4 × 4 in LPS mm and takes a point of the fixed image to a point of the moving one, so that
matrices compose from the network grid outwards: native = rigid @ affine. ``reference.register`` does the same with
SimpleITK.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from preprocessing.grid import template, template_brain
from preprocessing.mutual_information import LinearInterpolator, MutualInformation, Sample
from preprocessing.pose import Affine, Model, Rigid, rotation
from preprocessing.processor import one_torch_thread
from preprocessing.quasi_newton import Parameters, minimum
from preprocessing.resample import Matrix, inverse
from preprocessing.volume import Volume

SEARCH, COARSE = 8.0, 4.0  # mm: the images are averaged in blocks of about this size; at last they are as they are
FINE = 2.0  # mm: what the steps of the last level are measured by
SEARCH_POINTS, COARSE_POINTS, FINE_POINTS = 1500, 8_000, 24_000
MARGIN = 20.0  # mm around the brain: the outline of the head guides well, neck and jaw move on their own
OVERLAP = 0.25  # share of the brain's region that a series must show; a slab may show no more
# Between two series a patient may have moved, or have been put on the table again: the poses to start from.
SHIFTS = [(0.0, 0.0, 0.0), (-15.0, 0.0, 0.0), (15.0, 0.0, 0.0), (0.0, -20.0, 0.0), (0.0, 20.0, 0.0),
          *((0.0, 0.0, z) for z in (-45.0, -30.0, -15.0, 15.0, 30.0, 45.0))]  # fmt: skip  # mm
TURNS = list(product((-0.2, 0.0, 0.2), repeat=3))  # rotation vectors in radians
PROMISING, FINALISTS = 4, 2
MASK_STEP = 4.0  # mm: masks are looked at this coarsely


class RegistrationError(ValueError):
    """Two series cannot be aligned; the text says which and why."""


@dataclass(frozen=True)
class _Image:
    """``array`` [k, j, i] and the 4 × 4 matrix from voxel index (i, j, k) to LPS mm."""

    array: Tensor
    affine: Matrix

    @staticmethod
    def of(volume: Volume, device: str) -> _Image:
        return _Image(torch.from_numpy(np.ascontiguousarray(volume.array)).to(device), volume.geometry.affine)

    def averaged(self, block: float) -> _Image:
        """Averages of blocks of about ``block`` mm, of whole voxels."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        sizes = np.clip(np.round(block / spacing).astype(int), 1, self.array.shape[::-1])
        shrink = np.diag([*sizes.astype(float), 1.0])
        shrink[:3, 3] = (sizes - 1) / 2
        pooled = torch.nn.functional.avg_pool3d(self.array[None, None], tuple(sizes[::-1].tolist()))[0, 0]
        return _Image(pooled, self.affine @ shrink)

    def at(self, points: Tensor) -> Tensor:
        """The values at ``points`` (N, 3)."""
        to_index = torch.from_numpy(inverse(self.affine)).to(points)
        index = to_index[:3, :3] @ points.T + to_index[:3, 3:]
        return LinearInterpolator(self.array).values(index[None])[0]


@one_torch_thread()
def rigid(fixed: Volume, fixed_brain: NDArray[np.bool_], moving: Volume, device: str = "cpu") -> Matrix:
    """Where a point of ``fixed`` (the T1) lies in ``moving``: rotation and translation of one head.

    The scanner's coordinates are one of the starts, since one session shares a frame of reference.
    ``fixed_brain`` has the shape of ``fixed``. Raises ``RegistrationError`` when the images do not overlap.
    """
    region = _Region.of(fixed_brain, fixed.geometry.affine)
    model = Rigid(region.centre)
    levels = _levels(_Image.of(fixed, device), region.points(MARGIN), _Image.of(moving, device))
    poses = [model.parameters(turn, shift) for turn in TURNS for shift in SHIFTS]
    overlap = levels[0].overlap(np.asarray([model.matrix(pose) for pose in poses]))
    starts = [pose for pose, share in zip(poses, overlap, strict=True) if share >= OVERLAP]
    if not starts:
        raise RegistrationError(
            f"cannot align {moving.source or 'the moving image'} to {fixed.source or 'the fixed image'}: they do not "
            "overlap in space. Check that both series are of the same study and that their positions in the headers "
            "are true."
        )
    return _registered(levels, model, starts)


@one_torch_thread()
def affine_to_template(t1: Volume, brain: NDArray[np.bool_], device: str = "cpu") -> Matrix:
    """Where a point of the MNI152 template lies in ``t1``: 12 parameters, brain to brain.

    Starts from the brains' centres and sizes in several head tilts, so that the head's pose in the scanner does not
    matter as long as the orientation in the header is true. Raises ``RegistrationError`` for an empty mask.
    """
    fixed, points, there = _template(device)
    here = _Region.of(brain, t1.geometry.affine)
    model = Affine(there.centre)
    size, shift = float(np.cbrt(here.volume / there.volume)), here.centre - there.centre
    starts = [model.parameters(size * rotation(np.asarray(turn)), shift) for turn in TURNS]
    # The template has no skull. With the T1's in sight, the same head in another pose ends 0.7 mm away, without 0.3.
    moving = _Image.of(t1.with_array(np.where(brain, t1.array, 0)), device)
    return _registered(_levels(fixed, points, moving), model, starts)


def _registered(levels: list[MutualInformation], model: Model, starts: list[Parameters]) -> Matrix:
    """The matrix found from the most promising of ``starts``, from level to level."""
    search, coarse, fine = levels
    promising = [_optimised(search, model, start, SEARCH) for start in _best(search, model, starts, PROMISING)]
    arrived = [_optimised(coarse, model, start, COARSE) for start in _best(coarse, model, promising, FINALISTS)]
    return model.matrix(_optimised(fine, model, _best(coarse, model, arrived, 1)[0], FINE))


@dataclass(frozen=True)
class _Region:
    """Where to draw points from: a mask seen on every few millimetres, and its index-to-LPS matrix."""

    mask: NDArray[np.bool_]
    affine: Matrix

    @staticmethod
    def of(mask: NDArray[np.bool_], affine: Matrix) -> _Region:
        steps = np.maximum(1, np.round(MASK_STEP / np.linalg.norm(affine[:3, :3], axis=0))).astype(int)
        seen = mask[:: steps[2], :: steps[1], :: steps[0]]
        if not seen.any():
            raise RegistrationError("the mask to register is empty: check the brain extraction")
        return _Region(seen, affine @ np.diag([*steps.astype(float), 1.0]))

    @property
    def centre(self) -> NDArray[np.float64]:
        """The centre of mass in LPS mm."""
        return np.asarray((self.affine @ [*np.argwhere(self.mask).mean(axis=0)[::-1], 1.0])[:3])

    @property
    def volume(self) -> float:
        """In mm³."""
        return float(self.mask.sum() * abs(np.linalg.det(self.affine[:3, :3])))

    def points(self, margin: float) -> Tensor:
        """About FINE_POINTS points within ``margin`` mm of the mask, evenly spread, in LPS mm, (N, 3) float32.

        The R3 sequence (Roberts 2018) fills the box without falling into step with any voxel grid.
        """
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)[::-1]
        reach = np.ceil(margin / spacing).astype(int)
        around = np.pad(self.mask, [(r, r) for r in reach])
        around = ndimage.distance_transform_edt(~around, sampling=spacing) <= margin
        low, high = (edge(np.argwhere(around), axis=0) for edge in (np.min, np.max))
        size = high - low + 1
        count = round(FINE_POINTS * float(size.prod()) / float(around.sum()))
        unit = (0.5 + np.arange(1, count + 1)[:, None] * _R3) % 1.0
        place = low - 0.5 + unit * size
        nearest = np.clip(np.round(place).astype(int), low, high)
        inside = around[tuple(nearest.T)]
        order = np.lexsort(nearest[inside].T[::-1])  # neighbours in space beside each other in memory
        index = (place[inside][order] - reach)[:, ::-1]
        return torch.from_numpy((index @ self.affine[:3, :3].T + self.affine[:3, 3]).astype(np.float32))


_R3 = 1 / 1.2207440846057596 ** np.arange(1, 4)  # the real root of x⁴ = x + 1


@cache
def _template(device: str) -> tuple[_Image, Tensor, _Region]:
    region = _Region.of(template_brain(), template().geometry.affine)
    return _Image.of(template(), device), region.points(COARSE), region


def _levels(fixed: _Image, points: Tensor, moving: _Image) -> list[MutualInformation]:
    """The likeness of the two images at 8 mm, at 4 mm and as they are."""
    points = points.to(fixed.array.device)
    coarse = fixed.averaged(COARSE), moving.averaged(COARSE)
    search = coarse[0].averaged(SEARCH), coarse[1].averaged(SEARCH)
    steps = (len(points) // SEARCH_POINTS, len(points) // COARSE_POINTS, 1)
    return [
        MutualInformation(Sample(points[::step], still.at(points[::step])), moved.array, inverse(moved.affine))
        for (still, moved), step in zip((search, coarse, (fixed, moving)), steps, strict=True)
    ]


def _best(metric: MutualInformation, model: Model, candidates: list[Parameters], count: int) -> list[Parameters]:
    """The ``count`` candidates under which the images are most alike, the best first."""
    matrices = np.asarray([model.matrix(candidate) for candidate in candidates])
    # Few points make any histogram look ordered: without the overlap, a pose that shows an edge of the head would win.
    likeness = (metric.values(matrices) - 1) * metric.overlap(matrices)
    return [candidates[n] for n in np.argsort(-likeness, kind="stable")[:count]]


def _optimised(metric: MutualInformation, model: Model, start: Parameters, spacing: float) -> Parameters:
    """The parameters near ``start`` under which the images are most alike."""

    def cost(parameters: Parameters) -> tuple[float, Parameters]:
        nmi, by_matrix = metric.value_and_gradient(model.matrix(parameters))
        return -nmi, -model.pulled_back(parameters, by_matrix)

    return minimum(cost, start, first_step=spacing / 4, tolerance=spacing / 40)
