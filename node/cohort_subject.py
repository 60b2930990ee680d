"""How a study's DICOM series become a subject of a cohort: converted, prepared and judged as the node does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.cohort import Mask, Subject
from node.cohort_lesions import enhancing_lesions
from node.quality.headers import header_measures
from node.quality.rules import QualityRules
from node.quality.verdict import Verdict, assess
from node.roles.series_facts import SeriesFacts
from node.settings import Settings
from node.steps import preparation_settings, volumes_of
from preprocessing.adc import AdcError
from preprocessing.convert import ConversionError, convert_series
from preprocessing.grid import NETWORK_GRID
from preprocessing.prepare import PreparationSettings, prepare
from preprocessing.quality.study import measure
from preprocessing.resample import resample
from preprocessing.role import CHANNELS, Role
from preprocessing.study import PreparedStudy
from preprocessing.volume import Volume

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Preparing:
    """How a study's series become a subject with the inputs ``roles``, and the limits that ``quality`` sets it."""

    roles: tuple[Role, ...]
    settings: PreparationSettings
    quality: QualityRules
    progress: Progress = lambda doing, share: None

    @classmethod
    def of(cls, settings: Settings, roles: tuple[Role, ...], progress: Progress) -> Preparing:
        """As this node prepares its studies and judges them."""
        return cls(roles, preparation_settings(settings.work), settings.quality, progress)

    @property
    def needed(self) -> tuple[Role, ...]:
        """The series that are used, in the order of converting: ADC before the DWI that would give it otherwise."""
        wanted = {*self.roles, Role.T1, Role.LOW_DOSE, Role.FULL_DOSE}
        wanted |= {Role.DWI} if Role.ADC in self.roles else set()
        return tuple(role for role in (*CHANNELS, Role.DWI, Role.FULL_DOSE) if role in wanted)


@dataclass(frozen=True)
class SeriesFiles:
    """A study's series with a role: their files, what their headers say, the segmentations that lie with them, and
    what quality control has said of the study already, if it has."""

    files: Mapping[Role, list[Path]]
    facts: Mapping[Role, SeriesFacts]
    segmentations: tuple[Path, ...] = ()
    quality: str = ""


def prepared_subject(series: SeriesFiles, preparing: Preparing) -> Subject:
    """Convert and prepare a study, and judge it where nobody has. Raises ValueError for what cannot be converted or
    prepared, and for what quality control rejects."""
    volumes: dict[Role, Volume] = {}
    for role in (role for role in preparing.needed if role in series.files):
        preparing.progress(f"converting {role}", 0.0)
        try:
            volumes |= volumes_of(role, convert_series(series.files[role]), has_adc=Role.ADC in volumes)
        except (ConversionError, AdcError) as error:
            if role is not Role.ADC or Role.DWI not in series.files:  # as the node does: the map is computed instead
                raise ValueError(f"the {role} series cannot be converted: {error}") from error
    study = prepare(volumes, preparing.settings, preparing.progress)
    quality = series.quality or _judged(volumes, study, series.facts, preparing)
    masks = enhancing_lesions(series.segmentations)
    lesion = _on_network_grid(masks, volumes[Role.FULL_DOSE], study) if masks else None
    return replace(subject_of(study, preparing.roles, lesion), quality=quality)


def _judged(
    volumes: Mapping[Role, Volume], study: PreparedStudy, facts: Mapping[Role, SeriesFacts], preparing: Preparing
) -> str:
    """What quality control says of a study that it lets pass. Raises ValueError for one that it rejects."""
    preparing.progress("measuring quality", 0.0)
    assessment = assess((*header_measures(facts), *measure(volumes, study)), preparing.quality)
    if assessment.verdict is Verdict.REJECT:
        raise ValueError(f"quality control rejects it: {'; '.join(assessment.sentences(Verdict.REJECT))}")
    return passed(assessment.sentences(Verdict.WARN))


def subject_of(study: PreparedStudy, roles: tuple[Role, ...], lesion: np.ndarray | None = None) -> Subject:
    """A prepared study with its full dose, and the mask of its lesions on the network's grid. Raises ValueError."""
    missing = [role for role in roles if role not in study.channels]
    if missing or study.target is None:
        raise ValueError(f"the prepared study has no {', '.join(missing) or Role.FULL_DOSE}")
    inputs = study.input[[study.channels.index(role) for role in roles]].astype(np.float16)
    known = np.zeros_like(study.brain) if lesion is None else lesion.astype(bool) & study.brain
    return Subject(inputs, study.target.astype(np.float16), study.brain, known, dict(study.scales))


def passed(warnings: list[str]) -> str:
    """The verdict on a study that quality control let pass."""
    return f"{Verdict.WARN}: {'; '.join(warnings)}" if warnings else str(Verdict.ACCEPT)


def _on_network_grid(masks: tuple[Volume, ...], full_dose: Volume, study: PreparedStudy) -> Mask:
    """Lesions that were drawn on the full dose, or in its Frame of Reference. Raises ValueError for others."""
    known = np.zeros_like(study.brain)
    for mask in masks:
        if mask.geometry.frame_of_reference_uid != full_dose.geometry.frame_of_reference_uid:
            raise ValueError(
                f"the segmentation {mask.source} has another Frame of Reference than the full dose, so its place is "
                "not known: take it out of the folder to have the study without lesions"
            )
        there = resample(mask, like=NETWORK_GRID, transform=study.transforms[Role.FULL_DOSE])
        known |= there.array > 0.5
    return known
