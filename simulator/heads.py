"""Whole-head label maps, from files or from the tissue maps that nilearn packages, laid out as all the rest expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from simulator import structures as fs
from simulator.grid import Grid, axis_aligned

MARGIN = 14  # mm of air kept around the head, room for the deformation


class AnatomyError(ValueError):
    """No head can be made of what was given; the text says why and what would do."""


@dataclass(frozen=True)
class Head:
    """Structure numbers (``simulator.structures``) as int16 [k, j, i] on a 1 mm grid along the patient axes.

    The grid's LPS origin is the centre of the brain's bounding box. ``name`` says which head it is.
    """

    structures: NDArray[np.int16]
    grid: Grid
    name: str

    def mirrored(self) -> Head:
        """Left and right exchanged; structure numbers keep their side's number, which nothing depends on."""
        return replace(self, structures=np.ascontiguousarray(self.structures[:, :, ::-1]), name=self.name)


def head_files(folder: Path) -> list[Path]:
    """The label maps in a folder, sorted by name. Raises ``AnatomyError`` when there is none."""
    files = sorted(folder.glob("head_*.nii.gz")) if folder.is_dir() else []
    if not files:
        raise AnatomyError(
            f"{folder} holds no head_*.nii.gz; give the folder of the label maps, or none to use ICBM 152"
        )
    return files


@lru_cache(maxsize=4)
def load_head(path: Path) -> Head:
    """A label map of a whole head (1 mm, any orientation along the axes)."""
    try:
        image = nib.as_closest_canonical(nib.load(path))
    except (OSError, ImageFileError) as error:
        raise AnatomyError(f"{path} cannot be read as NIfTI: {error}") from error
    if len(image.shape) != 3 or not np.allclose(image.header.get_zooms()[:3], 1.0, atol=0.05):
        raise AnatomyError(f"{path} is {image.shape} at {image.header.get_zooms()} mm; a 3D map at 1 mm is needed")
    values = np.asanyarray(image.dataobj)
    if values.min() < 0 or values.max() >= fs.LABEL_LIMIT:
        raise AnatomyError(f"{path} has labels outside 0 … {fs.LABEL_LIMIT - 1}; FreeSurfer's numbers are expected")
    # RAS [i, j, k] to LPS [k, j, i].
    laid_out = values[::-1, ::-1, :].transpose(2, 1, 0).astype(np.int16)
    if not fs.lookup(fs.BRAIN)[laid_out].any():
        raise AnatomyError(f"{path} has no FreeSurfer brain label; see the label table in simulator/structures.py")
    return centred(laid_out, path.name.removesuffix(".nii.gz"))


def centred(structure_map: NDArray[np.int16], name: str) -> Head:
    """Crop to the head plus a margin of air and put LPS zero at the brain's centre."""
    occupied = structure_map > 0
    slices, shape = [], []
    for axis in range(3):
        line = np.flatnonzero(occupied.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(int(line[0]), int(line[-1]) + 1))
        shape.append(int(line[-1] - line[0] + 1))
    # The neck ends at the edge of the map: no air below it, so that the deformation cannot fold air into it.
    below = 0
    padded = np.pad(structure_map[tuple(slices)], ((below, MARGIN), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    brain = np.argwhere(fs.lookup(fs.BRAIN)[padded[::2, ::2, ::2]]) * 2
    centre = (brain.min(axis=0) + brain.max(axis=0)) / 2
    k, j, i = padded.shape
    return Head(padded, axis_aligned((i, j, k), (-float(centre[2]), -float(centre[1]), -float(centre[0]))), name)
