"""How a lesion looks, in the measures that contrast agents are judged by (as defined in the PICTURE trial of
gadopiclenol: Loevner et al., Investigative Radiology 2023), and how much of it there is.

With S the mean over the lesion mask and B the mean over its surroundings (the shell 3 to 8 mm from any lesion, inside
the brain):

- contrast-to-noise ratio, CNR = (S − B) / standard deviation over the surroundings. Trials take the noise from the air
  around the head, which brain masking removes; the surroundings' deviation also holds their anatomy, and a smoother
  image has less of it. No unit enters: it can be had on any scale.
- lesion-to-brain ratio, LBR = S / B;
- contrast enhancement percentage, CEP = 100 · (S − S in T1) / S in T1.

The last two need images in proportion to the signal, so [0, 1] is taken back by the scales that the cohort keeps: the
virtual image by those of the full dose it stands for. Without scales they are NaN. All of a subject's lesions are one
mask.

Volume is that of the enhancing voxels (``model.detection``) within 3 mm of the lesion mask; the virtual image is
compared with the full dose under the same rule, as Bland and Altman (Lancet 1986) compare two measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from model.cohort import Mask
from preprocessing.normalise import IntensityScale
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]
SHELL_MM = (3.0, 8.0)
NEAR_MM = 3.0


@dataclass(frozen=True)
class Appearance:
    """CNR and LBR without unit, CEP in percent; NaN where they do not exist."""

    cnr: float
    lbr: float
    cep: float


@dataclass(frozen=True)
class Volumes:
    """Enhancing volume at the lesions, ml, and the Dice overlap of the two; NaN without a lesion."""

    virtual_ml: float
    full_dose_ml: float
    dice: float


def appearance(
    image: FloatArray,
    t1: FloatArray,
    lesion: Mask,
    brain: Mask,
    scales: Mapping[Role, IntensityScale] | None,
    voxel_mm: float,
) -> Appearance:
    """How the lesion looks in ``image``, a full dose or virtual one; all arrays (z, y, x), images in [0, 1]."""
    distance = distance_to(lesion, voxel_mm)
    shell = brain & (distance >= SHELL_MM[0]) & (distance <= SHELL_MM[1])
    if not lesion.any() or not shell.any() or image[shell].std() == 0:
        return Appearance(math.nan, math.nan, math.nan)
    cnr = float((image[lesion].mean() - image[shell].mean()) / image[shell].std())
    if scales is None or not {Role.T1, Role.FULL_DOSE} <= set(scales):
        return Appearance(cnr, math.nan, math.nan)
    units, t1_units = scales[Role.FULL_DOSE], scales[Role.T1]
    inside, around = (float(units.from_unit(image[where]).mean()) for where in (lesion, shell))
    before = float(t1_units.from_unit(t1[lesion]).mean())
    return Appearance(cnr, inside / around, 100 * (inside - before) / before)


def volumes(virtual: Mask, full_dose: Mask, lesion: Mask, voxel_mm: float) -> Volumes:
    """From where the two images enhance (``model.detection``)."""
    if not lesion.any():
        return Volumes(math.nan, math.nan, math.nan)
    near = distance_to(lesion, voxel_mm) <= NEAR_MM
    a, b = near & virtual, near & full_dose
    ml = voxel_mm**3 / 1000
    both = int(a.sum() + b.sum())
    dice = 2 * float((a & b).sum()) / both if both else math.nan
    return Volumes(float(a.sum()) * ml, float(b.sum()) * ml, dice)


def distance_to(lesion: Mask, voxel_mm: float) -> NDArray[np.float64]:
    """Distance of every voxel to the nearest of the lesion, mm; infinite without one."""
    if not lesion.any():
        return np.full(lesion.shape, np.inf)
    distance: NDArray[np.float64] = distance_transform_edt(~lesion, sampling=voxel_mm)
    return distance
