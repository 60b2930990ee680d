"""What sites and anonymisers do to a study before the node sees it: each returns the study and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from benchmarks.header_study import HeaderStudy, written
from preprocessing.volume import Role
from simulator.grid import Grid
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.sequences import SpinEcho, SpoiledGradientEcho

Variant = Callable[[HeaderStudy, int], HeaderStudy]

T1_SERIES = ("t1", "low_dose", "full_dose")
NAMES = (
    "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "StudyDescription", "ImageComments",
    "PerformedProcedureStepDescription", "RequestedProcedureDescription",
)  # fmt: skip
TIMES = ("AcquisitionTime", "AcquisitionDateTime", "ContentTime", "SeriesTime")
CLASSIC_CONTRAST = (
    "ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusStartTime",
    "ContrastBolusTotalDose", "ContrastBolusIngredient", "ContrastBolusIngredientConcentration",
)  # fmt: skip
DOSES = ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusIngredientConcentration")


# Names


def as_they_are(study: HeaderStudy, seed: int) -> HeaderStudy:
    """As the scanner wrote it."""
    return study


def names_removed(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Every free text that could name a sequence is gone."""
    return study.edited(lambda name, ds: _remove(ds, NAMES))


def names_wrong(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Each series carries the description and protocol of another one."""
    series = list(study.series)
    shift = 1 + seed % (len(series) - 1)
    others = dict(zip(series, series[shift:] + series[:shift], strict=True))
    words = {name: study.first(name).SeriesDescription for name in series}

    def rename(name: str, ds: Dataset) -> None:
        ds.SeriesDescription = ds.ProtocolName = words[others[name]]

    return study.edited(rename)


# Contrast tags


def no_dose(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The agent and when it was given, not how much."""
    return study.edited(lambda name, ds: _without(ds, DOSES))


def agent_only(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Only the order in time tells the low dose from the full one."""
    return study.edited(lambda name, ds: _without(ds, (*DOSES, "ContrastBolusStartTime")))


def start_time_only(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Classic headers with nothing but the injection's time; enhanced ones cannot leave out the agent."""
    gone = tuple(word for word in CLASSIC_CONTRAST if word != "ContrastBolusStartTime")
    return study.edited(lambda name, ds: _without(ds, gone))


def no_contrast_tags(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Nobody typed anything at the scanner."""
    return study.edited(lambda name, ds: _without_contrast(ds))


def low_dose_untagged(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The technologist forgot the first injection; the second one's header tells that there was an earlier one."""
    return study.edited(lambda name, ds: _without_contrast(ds) if name == "low_dose" else None)


def low_dose_untagged_no_dose(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The first injection is forgotten, the second written without a dose and as if it were the only one.

    The second T1 series may then be a repeat before contrast as well as the low dose, and the third either dose.
    """
    study = low_dose_untagged(agent_only(study, seed), seed)

    def single(name: str, ds: Dataset) -> None:
        if agents := ds.get("ContrastBolusAgentSequence"):
            ds.ContrastBolusAgentSequence = agents[-1:]
            usage = ds.SharedFunctionalGroupsSequence[0]
            usage.ContrastBolusUsageSequence = usage.ContrastBolusUsageSequence[-1:]

    return study.edited(single).expecting(low_dose=None, full_dose=None)


def full_dose_untagged(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The technologist forgot the second injection."""
    return study.edited(lambda name, ds: _without_contrast(ds) if name == "full_dose" else None)


def same_dose_on_both(study: HeaderStudy, seed: int) -> HeaderStudy:
    """A template wrote the full dose's header on both series after contrast: is the first a low dose, or a full one?"""
    template = study.first("full_dose")

    def copy(name: str, ds: Dataset) -> None:
        if name != "low_dose":
            return
        for word in (*CLASSIC_CONTRAST, "ContrastBolusAgentSequence"):
            if word in template:
                ds[word] = template[word]
        for groups in ds.get("SharedFunctionalGroupsSequence", ()):
            usage = template.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence
            groups.ContrastBolusUsageSequence = usage

    return study.edited(copy).expecting(low_dose=None)


# Times and numbers


def no_time_on_low_dose(study: HeaderStudy, seed: int) -> HeaderStudy:
    """One series lost its times; its contrast tags are there."""
    return study.edited(lambda name, ds: _remove_times(ds) if name == "low_dose" else None)


def no_time_no_contrast(study: HeaderStudy, seed: int) -> HeaderStudy:
    """One series lost its times and none has contrast tags: the series numbers are all there is."""
    return no_time_on_low_dose(no_contrast_tags(study, seed), seed)


def numbers_reversed(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The PACS numbered the series anew, the last one first; no contrast tags."""

    def renumber(name: str, ds: Dataset) -> None:
        ds.SeriesNumber = 100 - int(ds.SeriesNumber)

    return no_contrast_tags(study, seed).edited(renumber)


# More series


def with_others(study: HeaderStudy, seed: int) -> HeaderStudy:
    """A localizer, a T2 and an angiography (time of flight, not flagged as such) before the T1 series."""
    plans = examination(study.scanner, stream(seed, "examination"))
    t1, flair = (next(plan for plan in plans if plan.kind is kind) for kind in (Kind.T1, Kind.FLAIR))
    t2 = replace(
        flair, kind=Kind.T1, number=21, start=1.0, sequence=SpinEcho(repetition=5200.0, echo=98.0), description="t2"
    )
    flow = SpoiledGradientEcho(repetition=22.0, echo=3.6, flip=18.0)
    slab = Grid.of((4, 4, 140), np.eye(3), (0.5, 0.5, 0.7), t1.grid.centre)
    angio = replace(t1, number=22, start=6.9, sequence=flow, grid=slab, thickness=0.7, description="tof")
    study = study.with_series("t2", written(seed, study.scanner, t2), None)
    study = study.with_series("angiography", written(seed, study.scanner, angio), None)
    return study.with_series("localizer", _localizer(study, seed, t1), None)


def with_others_untagged(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The same without any contrast tags."""
    return no_contrast_tags(with_others(study, seed), seed)


def with_reformats(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Axial reformats of the three T1 series, which only DERIVED\\SECONDARY tells from them; no contrast tags."""
    plans = examination(study.scanner, stream(seed, "examination"))
    for plan in [plan for plan in plans if plan.is_t1]:
        axial = Grid.of((4, 4, 80), np.eye(3), (0.9, 0.9, 2.0), plan.grid.centre)
        reformat = replace(plan, number=plan.number + 30, grid=axial, thickness=2.0)
        study = study.with_series(f"{plan.kind} reformat", written(seed, study.scanner, reformat), None)

    def derive(name: str, ds: Dataset) -> None:
        if name.endswith("reformat"):
            ds.ImageType = ["DERIVED", "SECONDARY", *ds.ImageType[2:]]
            shared, frames = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
            for groups in (*ds.get(shared, ()), *ds.get(frames, ())):
                for frame_type in groups.get("MRImageFrameTypeSequence", ()):
                    frame_type.FrameType = ds.ImageType

    return no_contrast_tags(study, seed).edited(derive)


def t1_repeated(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The patient moved and T1 was run again before contrast: the second one counts."""
    return _repeated(study, seed, Kind.T1).expecting(t1=None, t1_repeat=Role.T1)


def t1_repeated_no_dose(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The same, with the agent's name only."""
    return agent_only(t1_repeated(study, seed), seed)


def t1_repeated_untagged(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Four T1 series and no contrast tags: which of them came after the first injection is not written anywhere."""
    return no_contrast_tags(t1_repeated(study, seed), seed).expecting(
        t1=Role.T1, t1_repeat=None, low_dose=None, full_dose=None
    )


def low_dose_repeated(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The patient moved after the first injection: the second low-dose series counts."""
    return _repeated(study, seed, Kind.LOW_DOSE).expecting(low_dose=None, low_dose_repeat=Role.LOW_DOSE)


def low_dose_repeated_no_dose(study: HeaderStudy, seed: int) -> HeaderStudy:
    """The same, with the agent's name and the time of injection only."""
    return no_dose(low_dose_repeated(study, seed), seed)


def low_dose_repeated_agent_only(study: HeaderStudy, seed: int) -> HeaderStudy:
    """Three series after contrast, with the agent's name only: the one in the middle may belong to either injection."""
    return agent_only(low_dose_repeated(study, seed), seed).expecting(low_dose=Role.LOW_DOSE, low_dose_repeat=None)


NAME_VARIANTS: tuple[Variant, ...] = (as_they_are, names_removed, names_wrong)
CONTRAST_VARIANTS: tuple[Variant, ...] = (
    no_dose, agent_only, start_time_only, no_contrast_tags, low_dose_untagged, low_dose_untagged_no_dose,
    full_dose_untagged, same_dose_on_both,
)  # fmt: skip
SITE_VARIANTS: tuple[Variant, ...] = (
    *CONTRAST_VARIANTS, no_time_on_low_dose, no_time_no_contrast, numbers_reversed, with_others, with_others_untagged,
    with_reformats, t1_repeated, t1_repeated_no_dose, t1_repeated_untagged, low_dose_repeated,
    low_dose_repeated_no_dose, low_dose_repeated_agent_only,
)  # fmt: skip


def _repeated(study: HeaderStudy, seed: int, kind: Kind) -> HeaderStudy:
    plans = examination(study.scanner, stream(seed, "examination"))
    plan = next(plan for plan in plans if plan.kind is kind)
    again = replace(plan, number=plan.number + 40, start=plan.start + plan.duration + 0.2)
    return study.with_series(f"{kind}_repeat", written(seed, study.scanner, again), None)


def _localizer(study: HeaderStudy, seed: int, t1: SeriesPlan) -> Iterable[bytes]:
    """Five slices in each of three orientations, one series."""
    axes = np.eye(3)
    first: Dataset | None = None
    for turn in range(3):
        grid = Grid.of((4, 4, 5), np.roll(axes, turn, axis=1), (1.0, 1.0, 10.0), t1.grid.centre)
        scout = SpoiledGradientEcho(repetition=8.6, echo=4.0, flip=20.0)
        plan = replace(t1, number=60 + turn, start=0.5, sequence=scout, grid=grid, thickness=8.0, description="loc")
        one = HeaderStudy(study.scanner, {"": written(seed, study.scanner, plan)}, {})

        def join(name: str, ds: Dataset) -> None:
            nonlocal first
            first = first or ds
            ds.SeriesInstanceUID, ds.SeriesNumber = first.SeriesInstanceUID, first.SeriesNumber

        yield from one.edited(join).series[""]


def _remove(ds: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword in ds:
            del ds[keyword]


def _remove_times(ds: Dataset) -> None:
    _remove(ds, TIMES)
    for item in ds.get("PerFrameFunctionalGroupsSequence", ()):
        _remove(item.FrameContentSequence[0], ("FrameAcquisitionDateTime", "FrameReferenceDateTime"))


def _without(ds: Dataset, keywords: Iterable[str]) -> None:
    """The contrast attributes gone from a classic header, or from each agent of an enhanced one."""
    _remove(ds, keywords)
    for agent in ds.get("ContrastBolusAgentSequence", ()):
        _remove(agent, keywords)
        for profile in agent.get("ContrastAdministrationProfileSequence", ()):
            _remove(profile, keywords)


def _without_contrast(ds: Dataset) -> None:
    _remove(ds, (*CLASSIC_CONTRAST, "ContrastBolusAgentSequence"))
    for groups in ds.get("SharedFunctionalGroupsSequence", ()):
        _remove(groups, ("ContrastBolusUsageSequence",))
