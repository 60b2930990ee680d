"""What label maps lack and contrast agent lights up: dura, falx, tentorium, choroid plexus, pituitary, small vessels.

Also splits soft tissue into skin, fat and muscle, and finds the brain's hull (the mask that brain extraction gives).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from simulator import structures as fs
from simulator.grid import Grid
from simulator.heads import Head
from simulator.randomness import smooth_field
from simulator.tissue import Tissue, tissues_of

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]


def tissues(head: Head, rng: np.random.Generator) -> Labels:
    """The head's tissues [k, j, i], with everything that the structure map lacks."""
    labels = tissues_of(head.structures)
    _scalp(labels, head.grid, rng)
    box = bounding_box(fs.lookup(fs.BRAIN)[head.structures], 12)
    inner = Grid.from_matrix(_size(box), _shifted(head.grid, box))
    part, structure_map = labels[box], head.structures[box]
    _dura(part, structure_map)
    _vessels(part, structure_map, inner, rng)
    _choroid_plexus(part, structure_map, inner, rng)
    _pituitary(part, structure_map)
    return labels


def brain_hull(structure_map: NDArray[np.int16]) -> Mask:
    """Brain with its ventricles and sulci [k, j, i]: what HD-BET and a radiologist call brain."""
    box = bounding_box(fs.lookup(fs.BRAIN)[structure_map], 9)
    brain = fs.lookup(fs.BRAIN)[structure_map[box]]
    image = sitk.GetImageFromArray(brain.astype(np.uint8))
    # Closing by a distance instead of a structuring element costs the same for any radius.
    outside = sitk.SignedMaurerDistanceMap(image, squaredDistance=False)
    grown = sitk.BinaryFillhole(sitk.LessEqual(outside, 6.0))
    inside = sitk.SignedMaurerDistanceMap(grown, squaredDistance=False)
    hull = np.zeros(structure_map.shape, dtype=np.bool_)
    hull[box] = sitk.GetArrayFromImage(sitk.LessEqual(inside, -5.4)).astype(np.bool_) | brain
    return hull


def immovable(structure_map: NDArray[np.int16]) -> Mask:
    """What a tumour grows around and not into: ventricles and large vessels. It does fill sulci."""
    ventricles = (*fs.VENTRICLES, *fs.THIRD_VENTRICLE, *fs.FOURTH_VENTRICLE)
    return np.asarray(fs.lookup((*ventricles, *fs.ARTERY, *fs.VEIN))[structure_map])


def bounding_box(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """The smallest box around a mask, widened by ``margin`` voxels where there is room."""
    slices = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(max(int(line[0]) - margin, 0), min(int(line[-1]) + 1 + margin, mask.shape[axis])))
    return slices[0], slices[1], slices[2]


def _size(box: tuple[slice, slice, slice]) -> tuple[int, int, int]:
    k, j, i = (s.stop - s.start for s in box)
    return i, j, k


def _shifted(grid: Grid, box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    matrix = grid.matrix
    matrix[:3, 3] = grid.point([box[2].start, box[1].start, box[0].start])
    return matrix


def distance_to(mask: Mask) -> NDArray[np.float32]:
    """mm from each voxel to the mask (1 mm voxels); negative inside it. Far away everywhere if the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, 1e3, dtype=np.float32)
    image = sitk.SignedMaurerDistanceMap(sitk.GetImageFromArray(mask.astype(np.uint8)), squaredDistance=False)
    return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)


def _scalp(labels: Labels, grid: Grid, rng: np.random.Generator) -> None:
    """Skin outside, fat beneath it, then muscle and fat in streaks: what makes a head's outline on T1."""
    depth = -distance_to(labels != Tissue.AIR)
    soft = (labels == Tissue.SKIN) | (labels == Tissue.MUSCLE)
    streaks = smooth_field(rng, grid, 9.0)
    fat = soft & (depth < 7.5 + 1.2 * streaks)
    labels[soft] = Tissue.MUSCLE
    labels[soft & (streaks > 0.75)] = Tissue.FAT
    labels[fat] = Tissue.FAT
    labels[soft & (depth < 2.0)] = Tissue.SKIN


def _dura(labels: Labels, structure_map: NDArray[np.int16]) -> None:
    """One voxel of dura on the inside of the skull, in the fissure between the hemispheres, over the cerebellum."""
    fluid = fs.lookup(fs.CSF)[structure_map]
    beyond = ~(fs.lookup((*fs.BRAIN, *fs.CSF, *fs.ARTERY, *fs.OPTIC_CHIASM))[structure_map])
    # Ventricles and small holes are not "beyond"; what is must reach the skull.
    lining = fluid & (distance_to(beyond) < 1.3)
    left = distance_to(fs.lookup(fs.LEFT_CEREBRUM)[structure_map])
    right = distance_to(fs.lookup(fs.RIGHT_CEREBRUM)[structure_map])
    falx = fluid & (np.abs(left - right) < 0.75) & (left < 7)
    cerebrum = np.minimum(left, right)
    cerebellum = distance_to(fs.lookup(fs.CEREBELLUM)[structure_map])
    tentorium = fluid & (np.abs(cerebrum - cerebellum) < 0.75) & (cerebrum < 6)
    labels[lining | falx | tentorium] = Tissue.DURA


def _vessels(labels: Labels, structure_map: NDArray[np.int16], grid: Grid, rng: np.random.Generator) -> None:
    """Cortical veins and arteries in the sulci, and medullary veins: where two random surfaces cross, a thread runs."""
    first, second = smooth_field(rng, grid, 13.0), smooth_field(rng, grid, 13.0)
    thread = np.abs(first) + np.abs(second)
    sulci = fs.lookup(fs.CSF)[structure_map] & (labels == Tissue.CSF)
    vessel = sulci & (thread < 0.29)
    labels[vessel & (first > second)] = Tissue.VEIN
    labels[vessel & (first <= second)] = Tissue.ARTERY
    white = labels == Tissue.WHITE
    labels[white & (thread < 0.05)] = Tissue.VEIN


def _choroid_plexus(labels: Labels, structure_map: NDArray[np.int16], grid: Grid, rng: np.random.Generator) -> None:
    """Tufts along the thalamus in the lateral ventricles, and a little on the roof of the fourth."""
    ventricle = fs.lookup(fs.VENTRICLES)[structure_map]
    near = distance_to(fs.lookup(fs.THALAMUS)[structure_map])
    wall = -distance_to(ventricle)
    tufts = smooth_field(rng, grid, 5.0)
    labels[ventricle & (near < 8) & (wall < 2.7) & (tufts > -0.35)] = Tissue.CHOROID
    fourth = fs.lookup(fs.FOURTH_VENTRICLE)[structure_map]
    labels[fourth & (tufts > 0.9)] = Tissue.CHOROID


def _pituitary(labels: Labels, structure_map: NDArray[np.int16]) -> None:
    """An ellipsoid in the sella, 10 mm below the optic chiasm and a little in front, with its stalk."""
    chiasm = np.argwhere(fs.lookup(fs.OPTIC_CHIASM)[structure_map])
    if chiasm.size == 0:
        return  # a map without the chiasm does not say where the sella is
    k0, j0, i0 = chiasm.mean(axis=0)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in labels.shape)]
    gland = ((k - k0 + 10) / 3.5) ** 2 + ((j - j0 + 1) / 5.0) ** 2 + ((i - i0) / 6.5) ** 2 < 1
    stalk = ((j - j0 - 2) ** 2 + (i - i0) ** 2 < 1.6**2) & (k < k0) & (k > k0 - 9)
    free = ~fs.lookup(tuple(set(fs.BRAIN) - set(fs.VENTRICLES)))[structure_map]
    labels[free & (gland | stalk)] = Tissue.PITUITARY
