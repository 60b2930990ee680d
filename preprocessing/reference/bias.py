"""N4 bias field correction (Tustison et al. 2010; reference [10] of the paper) with SimpleITK."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from preprocessing.bias import BiasError
from preprocessing.volume import Volume, to_sitk

GRID = 4.0  # mm: the field is smooth, so it is fitted on every fourth millimetre
LEVELS = 4
ITERATIONS = 50


def correct_bias(volume: Volume, brain: NDArray[np.bool_]) -> Volume:
    """``volume`` divided by its bias field, in the same units: the field has geometric mean 1 inside ``brain``.

    ``brain`` [k, j, i] has the volume's shape; the field is fitted inside it and continues smoothly outside. Not for
    diffusion: correcting each b-value by its own field shifts the ADC by several per cent.
    Raises ``BiasError`` when the mask is empty or no voxel in it is above zero.
    """
    inside = brain & (volume.array > 0)
    if not inside.any():
        raise BiasError(f"{volume.source or 'the series'} has no signal inside the brain mask: check its registration")
    image = to_sitk(volume)
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    shrink = [max(1, round(GRID / spacing)) for spacing in volume.geometry.spacing]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([ITERATIONS] * LEVELS)
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    log_field -= log_field[inside].mean()
    return volume.with_array(volume.array / np.exp(log_field))
