"""The network's grid (160 × 192 × 160 at 1 mm, paper section 2) and the MNI152 template it is laid around."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nilearn
import numpy as np
from numpy.typing import NDArray

from preprocessing.nifti import read_nifti
from preprocessing.volume import Geometry, Volume

# The template's brain (values above zero) spans R 72 … L 72, A 73 … P 107 and I 72 … S 82 mm. The grid's centre is
# the centre of that box, LPS (0, 17, 5); its first voxel is therefore at centre − (size − 1) / 2. The brain keeps a
# margin of 7 mm left and right, 5 mm front and back and 2 mm below and above, and the mid-sagittal plane is the grid's
# own plane of symmetry, so that left-right flips map anatomy onto anatomy.
NETWORK_GRID = Geometry(
    size=(160, 192, 160),
    origin=(-79.5, -78.5, -74.5),
    spacing=(1.0, 1.0, 1.0),
    direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
)

NETWORK_SHAPE = NETWORK_GRID.size[::-1]  # [k, j, i]

Box = tuple[slice, slice, slice]

TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


@cache
def template() -> Volume:
    """The skull-stripped ICBM 152 2009a T1 that nilearn carries: values 0 … 255, 1 mm, shape (189, 233, 197).

    Raises ``FileNotFoundError`` when nilearn no longer packages the file.
    """
    path = Path(nilearn.__file__).parent / "datasets" / "data" / TEMPLATE
    if not path.is_file():
        raise FileNotFoundError(f"nilearn does not carry {TEMPLATE}: install the version pinned in constraints.txt")
    return read_nifti(path)


def template_brain() -> NDArray[np.bool_]:
    """Where the template has brain, on the template's own grid [k, j, i]."""
    return template().array > 0


def box_around(mask: NDArray[np.bool_]) -> tuple[Box, Geometry]:
    """The smallest part [k, j, i] of the network's grid that holds ``mask`` (not empty), and the grid of that part."""
    edges = [np.flatnonzero(mask.any(axis=others))[[0, -1]] for others in ((1, 2), (0, 2), (0, 1))]
    k, j, i = (slice(int(first), int(last) + 1) for first, last in edges)
    first = NETWORK_GRID.affine @ (i.start, j.start, k.start, 1)
    size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
    origin = (float(first[0]), float(first[1]), float(first[2]))
    return (k, j, i), Geometry(size, origin, NETWORK_GRID.spacing, NETWORK_GRID.direction)
