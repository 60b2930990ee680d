"""A study's series to the network's input: the steps of the paper (section 2) in the order they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocessing import bias, register
from preprocessing.brain import BrainExtractor
from preprocessing.grid import NETWORK_GRID, NETWORK_SHAPE, box_around
from preprocessing.normalise import HIGH, LOW, IntensityScale, scale_of
from preprocessing.processor import one_torch_thread, use_threads
from preprocessing.reference import bias as reference_bias
from preprocessing.reference import register as reference_register
from preprocessing.resample import Matrix, resample
from preprocessing.role import CHANNELS, Role
from preprocessing.study import PreparedStudy
from preprocessing.volume import Geometry, Volume

REQUIRED = (Role.T1, Role.LOW_DOSE)

Progress = Callable[[str, float], None]


class PreparationError(ValueError):
    """The study cannot be prepared; the text says which series and why."""


@dataclass(frozen=True)
class PreparationSettings:
    """``threads`` for every step; HD-BET with five folds and mirroring if ``accurate_brain``; clip limits in sd.

    ``method`` is the torch way of registration and N4, on ``device``, or the "reference": SimpleITK's, much slower.
    """

    threads: int = 2
    accurate_brain: bool = False
    clip_low: float = LOW
    clip_high: float = HIGH
    method: Literal["fast", "reference"] = "fast"
    device: str = "cpu"


def prepare(volumes: Mapping[Role, Volume], settings: PreparationSettings, progress: Progress) -> PreparedStudy:
    """The network's input from a study's series.

    ``volumes`` holds T1 and LOW_DOSE, and FLAIR, ADC (mm²/s) and FULL_DOSE where there are any. ADC follows the volume
    under DWI, its b=0 image, to the T1; without one the ADC map itself is registered. FULL_DOSE becomes ``target``.
    ``progress`` is called with the name of the step that starts and the share (0 … 1) done before it, lastly with 1.
    Raises ``PreparationError`` when a required series is missing, and what the steps raise (``BrainExtractionError``,
    ``RegistrationError``, ``BiasError``, ``NormalisationError``), all of them ``ValueError`` with cause and remedy.
    """
    require(volumes)
    use_threads(settings.threads)
    progress("brain extraction", 0.0)
    extractor = _extractor(settings.accurate_brain, settings.device)
    brain = extractor.mask(volumes[Role.T1], lambda share: progress("brain extraction", 0.6 * share))
    return prepare_in_brain(volumes, brain, settings, lambda step, share: progress(step, 0.6 + 0.4 * share))


def prepare_in_brain(
    volumes: Mapping[Role, Volume], brain: NDArray[np.bool_], settings: PreparationSettings, progress: Progress
) -> PreparedStudy:
    """``prepare`` after brain extraction: ``brain`` is the brain on the T1's own grid.

    The series are registered as they come, for mutual information does not mind the bias field, and interpolated once.
    N4 then works on the network's grid, inside the brain, on a fraction of the voxels. Never on diffusion: its field
    would change the ADC.
    """
    require(volumes)
    use_threads(settings.threads)
    way = _WAYS[settings.method](settings.device)
    t1 = volumes[Role.T1]

    progress("registration to MNI152", 0.0)
    to_t1 = way.affine_to_template(t1, brain)
    mask = on_network_grid(brain, t1.geometry, to_t1)
    if not mask.any():
        raise PreparationError("the brain lies outside the network's grid: check the T1's orientation in its header")
    box, grid = box_around(mask)  # outside it all is zero, so nothing is computed there

    channels = tuple(role for role in CHANNELS if role in volumes)
    roles = tuple(role for role in (*CHANNELS, Role.FULL_DOSE) if role in volumes)  # the full dose comes last
    unit = np.zeros((len(roles), *NETWORK_SHAPE), np.float32)
    transforms: dict[Role, Matrix] = {}
    scales: dict[Role, IntensityScale] = {}
    for number, role in enumerate(roles):
        progress(f"registration and N4 of {role}", 0.2 + 0.8 * number / len(roles))
        from_t1 = np.eye(4) if role is Role.T1 else way.rigid(t1, brain, _guide(role, volumes))
        transforms[role] = from_t1 @ to_t1
        image = resample(volumes[role], like=grid, transform=transforms[role], outside=np.nan)
        seen = mask[box] & np.isfinite(image.array)
        if role is not Role.ADC:
            with one_torch_thread():
                image = way.correct_bias(image, seen)
        values = image.array[seen]
        scales[role] = scale_of(values, np.ones_like(values, dtype=bool), settings.clip_low, settings.clip_high)
        unit[number][box][seen] = scales[role].to_unit(values)
    target = unit[len(channels)] if Role.FULL_DOSE in roles else None
    study = PreparedStudy(channels, unit[: len(channels)], mask, transforms, scales, target)
    progress("prepared", 1.0)
    return study


def require(volumes: Mapping[Role, Volume]) -> None:
    """Raises ``PreparationError`` when a series is missing without which there is no input."""
    for role in REQUIRED:
        if role not in volumes:
            raise PreparationError(f"the study has no {role} series, which the network needs")


def on_network_grid(brain: NDArray[np.bool_], here: Geometry, to_here: Matrix) -> NDArray[np.bool_]:
    """The mask of grid ``here`` on the network's grid; ``to_here`` takes a point of the latter to one of the former."""
    mask = Volume(brain.astype(np.float32), here)
    return np.asarray(resample(mask, like=NETWORK_GRID, transform=to_here).array > 0.5)


@dataclass(frozen=True)
class _Way:
    """How to do the steps for which there is a fast way and a plain one."""

    affine_to_template: Callable[[Volume, NDArray[np.bool_]], Matrix]
    rigid: Callable[[Volume, NDArray[np.bool_], Volume], Matrix]
    correct_bias: Callable[[Volume, NDArray[np.bool_]], Volume]


_WAYS: Mapping[str, Callable[[str], _Way]] = {
    "fast": lambda device: _Way(
        partial(register.affine_to_template, device=device),
        partial(register.rigid, device=device),
        partial(bias.correct_bias, device=device),
    ),
    "reference": lambda _: _Way(
        reference_register.affine_to_template, reference_register.rigid, reference_bias.correct_bias
    ),
}


def _guide(role: Role, volumes: Mapping[Role, Volume]) -> Volume:
    """The image that finds the way for a series: b=0 for the ADC map, whose own contrast is poor, else the series."""
    return volumes[Role.DWI] if role is Role.ADC and Role.DWI in volumes else volumes[role]


@cache
def _extractor(accurate: bool, device: str) -> BrainExtractor:
    return BrainExtractor(accurate, device)
