"""One series cut into blocks of about 4 mm, told apart: brain, head, and the air above the level of the eyes.

Air says what anatomy hides: in it there is noise, and whatever an artefact displaced. Below the eyes there is none to
look at (MRIQC masks it the same way, its "hat" mask).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nilearn
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from preprocessing.grid import NETWORK_GRID
from preprocessing.nifti import read_nifti
from preprocessing.resample import Matrix, inverse, resample
from preprocessing.volume import FloatArray, Geometry, Volume

BLOCK = 4.0  # mm
HEAD = 0.5  # of white matter: what is brighter is head, not a ghost of it
MARGIN = 12.0  # mm around the head that are no air: fat-suppressed scalp, fluttering skin
EYES = -20.0  # mm, the template's superior coordinate above which the head is cranium
DEEP = 0.9  # probability of white matter from which it is deep, not partial volume or folded cortex

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Surroundings:
    """Blocks [k, j, i] of one series.

    ``white`` is the median signal of deep white matter; ``power`` the mean squared signal of a block's ``voxels``;
    ``cranium`` marks blocks at the level of the brain, ``head`` those of the head, ``air`` those far from it, both at
    that level only; ``brain`` those with brain. ``size`` is a block's edge in mm along k, j, i; ``axes`` the patient
    axis (0 left-right, 1 front-back, 2 up-down) that each of them is nearest to. ``outline`` is the head on these
    blocks at every level, in patient coordinates.
    """

    white: float
    voxels: int
    power: FloatArray
    cranium: Mask
    head: Mask
    air: Mask
    brain: Mask
    size: tuple[float, float, float]
    axes: tuple[int, int, int]
    outline: Volume

    @property
    def masked(self) -> bool:
        """Whether the scanner set the background to zero, so that nothing can be learnt from it."""
        quiet = self.power[self.air]
        return bool(quiet.size < FEWEST or np.mean(quiet < (SILENT * self.white) ** 2) > MASKED)


    @property
    def noise_power(self) -> float:
        """Mean squared signal of air that holds noise alone; NaN when the background is masked.

        From the lower quartile of the blocks, for ghosts are in the others: the mean of n squared Rayleigh values has a
        gamma distribution of shape n, which says where its quartile lies.
        """
        if self.masked:
            return float("nan")
        quartile = float(stats.gamma.ppf(0.25, self.voxels)) / self.voxels
        return float(np.percentile(self.power[self.air], 25)) / quartile


FEWEST = 50  # blocks of air that say something together
SILENT, MASKED = 1e-3, 0.05  # of white matter; share of the blocks. Where there is noise, no whole block is silent


def surroundings(
    volume: Volume, brain: Mask, transform: Matrix, t1: tuple[Volume, Matrix] | None = None
) -> Surroundings:
    """Cut ``volume`` into blocks; ``transform`` takes points of the network grid, on which ``brain`` lies, to it.

    ``t1`` is the outline of the head in the T1 and that series' transform: where fat is dark, as in FLAIR and
    diffusion, the scalp is known from there.
    """
    geometry = volume.geometry
    factors = [max(1, round(BLOCK / spacing)) for spacing in geometry.spacing[::-1]]
    signal = volume.array
    blocks = _coarse(geometry, factors)
    mean, power = _block_mean(signal, factors), _block_mean(np.square(signal), factors)
    to_network = inverse(transform) @ blocks.affine
    k, j, i = np.ogrid[tuple(slice(0, n) for n in mean.shape)]
    up = to_network[2, 0] * i + to_network[2, 1] * j + to_network[2, 2] * k + to_network[2, 3]
    cranium = np.asarray(up > EYES)
    inside = resample(
        Volume(brain.astype(np.float32), NETWORK_GRID), like=blocks, transform=inverse(transform)
    ).array > 0.25
    white = white_matter(volume, brain, transform)
    head = _head(mean, white, inside)
    if t1 is not None:
        outline, to_t1 = t1
        head |= resample(outline, like=blocks, transform=to_t1 @ inverse(transform)).array > 0.5
    i_mm, j_mm, k_mm = blocks.spacing
    size = (k_mm, j_mm, i_mm)
    near = ndimage.distance_transform_edt(~head, sampling=size) <= MARGIN
    direction = np.abs(np.reshape(geometry.direction, (3, 3)))[:, ::-1]
    k_axis, j_axis, i_axis = (int(axis) for axis in direction.argmax(axis=0))
    voxels = int(np.prod(factors))
    return Surroundings(
        white, voxels, power, cranium, head & cranium, ~near & cranium, inside, size, (k_axis, j_axis, i_axis),
        Volume(head.astype(np.float32), blocks),
    )  # fmt: skip


def white_matter(volume: Volume, brain: Mask, transform: Matrix) -> float:
    """The median signal of deep white matter, found through the template; NaN when the series shows none of it."""
    points = np.argwhere(deep_white_matter() & brain)[::7, ::-1]
    index = inverse(volume.geometry.affine) @ transform @ NETWORK_GRID.affine @ np.c_[points, np.ones(len(points))].T
    nearest = np.rint(index[:3]).astype(int)
    seen = ((nearest >= 0) & (nearest < np.asarray(volume.geometry.size)[:, None])).all(axis=0)
    if not seen.any():
        return float("nan")
    i, j, k = nearest[:, seen]
    return float(np.median(volume.array[k, j, i]))


@cache
def deep_white_matter() -> Mask:
    """Where the ICBM 152 atlas is sure of white matter, on the network grid."""
    path = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz"
    atlas = read_nifti(path)
    return np.asarray(resample(atlas, like=NETWORK_GRID).array > DEEP * atlas.array.max())


def _head(mean: FloatArray, white: float, brain: Mask) -> Mask:
    """What is bright and hangs together with the brain; its cavities belong to it."""
    bright = (mean > HEAD * white) | brain
    labels, _ = ndimage.label(bright, structure=np.ones((3, 3, 3)))
    of_brain = np.bincount(labels[brain], minlength=1)
    if not of_brain.any():
        return np.asarray(bright)
    head = labels == of_brain.argmax()
    return np.asarray(ndimage.binary_fill_holes(head))


def _coarse(geometry: Geometry, factors: list[int]) -> Geometry:
    """The grid of the blocks; voxels at the far ends that fill no block are left out."""
    steps = np.asarray(factors[::-1])
    size = np.asarray(geometry.size) // steps
    origin = geometry.affine @ [*((steps - 1) / 2), 1.0]
    spacing = np.asarray(geometry.spacing) * steps
    return Geometry(
        (int(size[0]), int(size[1]), int(size[2])), (float(origin[0]), float(origin[1]), float(origin[2])),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])), geometry.direction, geometry.frame_of_reference_uid,
    )


def _block_mean(array: FloatArray, factors: list[int]) -> FloatArray:
    k, j, i = (length // factor for length, factor in zip(array.shape, factors, strict=True))
    a, b, c = factors
    whole = array[: k * a, : j * b, : i * c]
    return np.asarray(whole.reshape(k, a, j, b, i, c).mean(axis=(1, 3, 5)), dtype=np.float32)
