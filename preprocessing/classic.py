"""Classic single-frame volumes read by dicom2nifti, held against the geometry that the headers state."""

from __future__ import annotations

from collections.abc import Sequence

import dicom2nifti.convert_dicom
import numpy as np
from dicom2nifti.exceptions import ConversionError as NotConverted
from dicom2nifti.exceptions import ConversionValidationError as NotValid
from pydicom.dataset import Dataset

from preprocessing.nifti import LPS_FROM_RAS
from preprocessing.volume import FloatArray, Geometry


class Disagreement(ValueError):  # noqa: N818 - it is an answer, not a fault of the series
    """dicom2nifti refuses the series or puts it elsewhere than its headers do; the text says which."""


def array_by_dicom2nifti(datasets: Sequence[Dataset], geometry: Geometry) -> FloatArray:
    """The voxels [k, j, i] on ``geometry``, which the caller has read from the headers and found regular.

    Raises ``Disagreement`` when dicom2nifti does not arrive at the same grid.
    """
    try:
        image = dicom2nifti.convert_dicom.dicom_array_to_nifti(list(datasets), None, reorient_nifti=False)["NII"]
    except (NotConverted, NotValid) as error:
        raise Disagreement(f"dicom2nifti refuses it: {error}") from error
    except (KeyError, AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise Disagreement(f"dicom2nifti fails on it: {type(error).__name__} {error}") from error
    # Index on the headers' grid of each index on dicom2nifti's: both are the same voxels, turned or flipped.
    turn = np.linalg.inv(geometry.affine) @ LPS_FROM_RAS @ image.affine
    signs = np.round(turn[:3, :3])
    if image.ndim != 3 or np.abs(turn[:3, :3] - signs).max() > 1e-3 or not (np.abs(signs).sum(axis=0) == 1).all():
        raise Disagreement(f"dicom2nifti makes an image of shape {image.shape} on another grid")
    axes = [int(np.abs(signs[axis]).argmax()) for axis in range(3)]
    array: FloatArray = np.transpose(np.asarray(image.dataobj, dtype=np.float32), axes)
    flips = [axis for axis in range(3) if signs[axis, axes[axis]] < 0]
    first = np.asarray([array.shape[axis] - 1 if axis in flips else 0 for axis in range(3)])
    if array.shape != geometry.size or np.abs(turn[:3, 3] - first).max() > 0.02:
        raise Disagreement(f"dicom2nifti makes an image of {array.shape} voxels that starts at another corner")
    return np.ascontiguousarray(np.flip(array, tuple(flips)).transpose(2, 1, 0))
