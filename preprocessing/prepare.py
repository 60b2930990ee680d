"""A study's series to the network's input: the steps of the paper (section 2) in the order they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from preprocessing.bias import correct_bias
from preprocessing.brain import BrainExtractor
from preprocessing.grid import NETWORK_GRID
from preprocessing.normalise import HIGH, LOW, IntensityScale, scale_of
from preprocessing.register import affine_to_template, rigid
from preprocessing.resample import Matrix, inverse, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import FloatArray, Geometry, Role, Volume

CHANNELS = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)
REQUIRED = (Role.T1, Role.LOW_DOSE)

Progress = Callable[[str, float], None]


class PreparationError(ValueError):
    """The study cannot be prepared; the text says which series and why."""


@dataclass(frozen=True)
class PreparationSettings:
    """``threads`` for every step; HD-BET with five folds and mirroring if ``accurate_brain``; clip limits in sd."""

    threads: int = 2
    accurate_brain: bool = False
    clip_low: float = LOW
    clip_high: float = HIGH


def prepare(volumes: Mapping[Role, Volume], settings: PreparationSettings, progress: Progress) -> PreparedStudy:
    """The network's input from a study's series.

    ``volumes`` holds T1 and LOW_DOSE, and FLAIR, ADC (mm²/s) and FULL_DOSE where there are any. ADC follows the volume
    under DWI, its b=0 image, to the T1; without one the ADC map itself is registered. FULL_DOSE becomes ``target``.
    ``progress`` is called with the name of the step that starts and the share (0 … 1) done before it, lastly with 1.
    Raises ``PreparationError`` when a required series is missing, and what the steps raise (``BrainExtractionError``,
    ``RegistrationError``, ``BiasError``, ``NormalisationError``), all of them ``ValueError`` with cause and remedy.
    """
    for role in REQUIRED:
        if role not in volumes:
            raise PreparationError(f"the study has no {role} series, which the network needs")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(settings.threads)
    torch.set_num_threads(settings.threads)
    roles = [role for role in (*CHANNELS, Role.FULL_DOSE) if role in volumes]
    t1 = volumes[Role.T1]

    progress("brain extraction", 0.0)
    brain = _extractor(settings.accurate_brain).mask(t1, lambda share: progress("brain extraction", 0.35 * share))
    progress("registration to MNI152", 0.35)
    to_t1 = affine_to_template(t1, brain)

    onto_grid: dict[Role, FloatArray] = {}
    transforms: dict[Role, Matrix] = {}
    for done, role in enumerate(roles):
        progress(f"registration and N4 of {role}", 0.45 + 0.5 * done / len(roles))
        volume = volumes[role]
        from_t1 = np.eye(4) if role is Role.T1 else rigid(t1, brain, _guide(role, volumes))
        transforms[role] = from_t1 @ to_t1
        if role is not Role.ADC:
            here = _sampled(brain, t1.geometry, volume.geometry, inverse(from_t1))
            volume = correct_bias(volume, here)
        onto_grid[role] = resample(volume, like=NETWORK_GRID, transform=transforms[role], outside=np.nan).array

    progress("normalisation", 0.95)
    mask = _sampled(brain, t1.geometry, NETWORK_GRID, to_t1)
    scales = {role: _scale(onto_grid[role], mask, settings) for role in roles}
    unit = {role: _unit(onto_grid[role], mask, scales[role]) for role in roles}
    channels = tuple(role for role in CHANNELS if role in roles)
    inputs = np.stack([unit[role] for role in channels])
    study = PreparedStudy(channels, inputs, mask, transforms, scales, unit.get(Role.FULL_DOSE))
    progress("prepared", 1.0)
    return study


def _guide(role: Role, volumes: Mapping[Role, Volume]) -> Volume:
    """The image that finds the way for a series: b=0 for the ADC map, whose own contrast is poor, else the series."""
    return volumes[Role.DWI] if role is Role.ADC and Role.DWI in volumes else volumes[role]


def _sampled(brain: NDArray[np.bool_], here: Geometry, there: Geometry, matrix: Matrix) -> NDArray[np.bool_]:
    """The mask of grid ``here`` on grid ``there``; ``matrix`` takes a point of ``there`` to a point of ``here``."""
    mask = Volume(brain.astype(np.float32), here)
    return np.asarray(resample(mask, like=there, transform=matrix).array > 0.5)


def _scale(array: FloatArray, mask: NDArray[np.bool_], settings: PreparationSettings) -> IntensityScale:
    return scale_of(array, mask & np.isfinite(array), settings.clip_low, settings.clip_high)


def _unit(array: FloatArray, mask: NDArray[np.bool_], scale: IntensityScale) -> FloatArray:
    """[0, 1] inside the brain, zero outside it and where the series does not reach."""
    return np.where(mask & np.isfinite(array), scale.to_unit(np.nan_to_num(array)), 0).astype(np.float32)


@cache
def _extractor(accurate: bool) -> BrainExtractor:
    return BrainExtractor(accurate)
