"""The volume that travels between the rooms: a 3D array, where it lies in the patient, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from preprocessing.role import Role as Role

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Geometry:
    """A regular grid in the patient's LPS coordinates (DICOM PS3.3 C.7.6.2.1.1), in ITK's terms.

    ``size``, ``spacing`` (mm) and ``origin`` (mm, centre of the first voxel) are in (i, j, k) order: columns, rows,
    slices. ``direction`` is the 3 × 3 matrix whose columns are the unit vectors of i, j and k, row by row.
    """

    size: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        if len(self.direction) != 9:
            raise ValueError(f"direction needs 9 numbers, got {len(self.direction)}")

    @property
    def affine(self) -> NDArray[np.float64]:
        """The 4 × 4 matrix from voxel index (i, j, k, 1) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix


@dataclass(frozen=True)
class Volume:
    """``array[k, j, i]`` (slices, rows, columns; float32) on ``geometry``; ``source`` names the series it came from."""

    array: FloatArray
    geometry: Geometry
    source: str = ""

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.size[::-1]:
            raise ValueError(f"array {self.array.shape} does not fit a grid of {self.geometry.size[::-1]} (k, j, i)")

    def with_array(self, array: NDArray[np.generic]) -> Volume:
        """The same grid with other values."""
        return replace(self, array=np.asarray(array, dtype=np.float32))


def to_sitk(volume: Volume) -> sitk.Image:
    """The volume as a SimpleITK image (shares LPS and axis order, loses the Frame of Reference UID)."""
    image = sitk.GetImageFromArray(volume.array)
    image.SetOrigin(volume.geometry.origin)
    image.SetSpacing(volume.geometry.spacing)
    image.SetDirection(volume.geometry.direction)
    return image


def from_sitk(image: sitk.Image, frame_of_reference_uid: str = "", source: str = "") -> Volume:
    """The SimpleITK image as a volume of float32."""
    geometry = Geometry(
        tuple(image.GetSize()), tuple(image.GetOrigin()), tuple(image.GetSpacing()), tuple(image.GetDirection()),
        frame_of_reference_uid,
    )
    return Volume(sitk.GetArrayFromImage(image).astype(np.float32, copy=False), geometry, source)
