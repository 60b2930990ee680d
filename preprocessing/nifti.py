"""The border to NIfTI: RAS outside, LPS inside."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from preprocessing.volume import Geometry, Volume

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path) -> Volume:
    """The 3D image at ``path`` as a volume, float32 with the file's scaling applied; ``source`` is the file's name.

    Raises ``ValueError`` when the image is not 3D.
    """
    image = nibabel.load(path)
    if len(image.shape) != 3:
        raise ValueError(f"{path} has shape {image.shape}: one 3D image is needed, split the series first")
    array = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return Volume(np.ascontiguousarray(array), geometry_of(LPS_FROM_RAS @ image.affine, image.shape), path.name)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write the volume as float32 NIfTI-1 at ``path`` (compressed when the name ends in .gz)."""
    image = nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), LPS_FROM_RAS @ volume.geometry.affine)
    nibabel.save(image, path)


def geometry_of(affine: np.ndarray, size: tuple[int, ...], frame_of_reference_uid: str = "") -> Geometry:
    """The grid with ``size`` voxels (i, j, k) whose index-to-LPS matrix is ``affine`` (4 × 4, without shear)."""
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    direction = columns / spacing
    return Geometry(
        (int(size[0]), int(size[1]), int(size[2])),
        (float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        tuple(float(value) for value in direction.ravel()),
        frame_of_reference_uid,
    )
