"""Sessions for a cohort from NIfTI files in the layout of BraTS, with or without a low dose.

One folder per session, ``BraTS-GLI-00001-000`` or any name, with a file per series whose name ends in what it is:
``…-t1n``, ``-t1c``, ``-t2f`` (BraTS 2023 and later) or ``…_t1``, ``_t1ce``, ``_flair`` (until 2021), ``adc`` and
``low_dose`` where there are any, and ``seg``, the segmentation. All ``.nii.gz`` or ``.nii``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.cohort import Subject
from model.gather import Session
from node.cohort_subject import Progress, subject_of
from preprocessing.grid import NETWORK_GRID
from preprocessing.nifti import read_nifti
from preprocessing.prepare import PreparationSettings, prepare, prepare_in_brain
from preprocessing.resample import resample
from preprocessing.volume import Role, Volume
from simulator.nifti import low_dose_of

SIMULATED = "simulated_low_dose"
"""The end of a session's name, and so of everything that is ever said of it, where its low dose was made up."""

_NAMES = {
    Role.T1: ("t1n", "t1"), Role.FULL_DOSE: ("t1c", "t1ce", "t1gd"), Role.FLAIR: ("t2f", "flair"), Role.ADC: ("adc",),
    Role.LOW_DOSE: ("low_dose", "t1low"),
}  # fmt: skip
_SEGMENTATION = ("seg",)
_ENHANCING = {"t1c": 3, "t1ce": 4}  # the label of enhancing tumour changed with the names of the series, in 2023
_BRATS = re.compile(r"(?P<patient>BraTS-[A-Za-z]+-[0-9]+)-(?P<time>[0-9]+)")
_LARGEST_BRAIN_ML = 2500.0
"""What is not zero takes more than this in an image of a whole head, less where the skull was stripped."""


def from_nifti(
    folder: Path, roles: tuple[Role, ...], preparation: PreparationSettings, progress: Progress, *,
    simulate_low_dose: bool,
) -> Iterator[Session]:
    """A session per subfolder that holds NIfTI files. Raises ValueError when there is none."""
    places = sorted(place for place in folder.iterdir() if place.is_dir() and any(place.glob("*.nii*")))
    if not places:
        raise ValueError(f"there is no folder with NIfTI files in {folder}: one folder per session is expected")
    for place in places:
        files = _files(place)
        named = _BRATS.fullmatch(place.name)
        patient, date = (named["patient"], named["time"]) if named else (place.name, "")
        makes_up = simulate_low_dose and Role.LOW_DOSE not in files
        lacks = [f"it has no {role} ({' or '.join(_NAMES[role])})" for role in (*roles, Role.FULL_DOSE)
                 if role not in files and role is not Role.LOW_DOSE]  # fmt: skip
        if Role.LOW_DOSE not in files and not makes_up:
            lacks.append("it has no low dose; --simulate-low-dose makes one of T1 and T1ce, and says so in its name")
        name = f"{place.name}_{SIMULATED}" if makes_up else place.name
        load = partial(_subject, files, _segmentation(place), roles, preparation, progress)
        yield Session(name, patient, patient, date, tuple(lacks), load)


def _files(place: Path) -> dict[Role, Path]:
    found = {role: _found(place, names) for role, names in _NAMES.items()}
    return {role: path for role, path in found.items() if path is not None}


def _segmentation(place: Path) -> tuple[Path, int] | None:
    """The segmentation and its label of enhancing tumour."""
    path = _found(place, _SEGMENTATION)
    full_dose = _found(place, ("t1c",))
    return None if path is None else (path, _ENHANCING["t1ce" if full_dose is None else "t1c"])


def _found(place: Path, names: tuple[str, ...]) -> Path | None:
    """The one file whose name is, or ends in, one of ``names``. Raises ValueError for several."""
    pattern = re.compile(rf"(.*[-_])?({'|'.join(names)})\.nii(\.gz)?")
    found = [path for path in sorted(place.glob("*.nii*")) if pattern.fullmatch(path.name)]
    if len(found) > 1:
        raise ValueError(f"{place.name} has several of one kind: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _subject(
    files: Mapping[Role, Path], segmentation: tuple[Path, int] | None, roles: tuple[Role, ...],
    preparation: PreparationSettings, progress: Progress,
) -> Subject:
    wanted = {*roles, Role.T1, Role.LOW_DOSE, Role.FULL_DOSE}
    volumes = {role: read_nifti(path) for role, path in files.items() if role in wanted}
    if Role.ADC in volumes:
        volumes[Role.ADC] = _in_si(volumes[Role.ADC])
    if Role.LOW_DOSE not in volumes:
        progress("making up the low dose", 0.0)
        low_dose = low_dose_of(files[Role.T1], files[Role.FULL_DOSE])
        volumes[Role.LOW_DOSE] = volumes[Role.FULL_DOSE].with_array(low_dose)
    brain = _stripped_brain(volumes[Role.T1])
    if brain is None:
        study = prepare(volumes, preparation, progress)
    else:
        study = prepare_in_brain(volumes, brain, preparation, progress)
    lesion = None
    if segmentation is not None:
        path, label = segmentation
        marked = read_nifti(path)
        mask = marked.with_array((np.rint(marked.array) == label).astype(np.float32))
        lesion = resample(mask, like=NETWORK_GRID, transform=study.transforms[Role.FULL_DOSE]).array > 0.5
    return subject_of(study, roles, lesion)


def _stripped_brain(t1: Volume) -> NDArray[np.bool_] | None:
    """What is not zero, if that is no more than a brain."""
    brain = t1.array != 0
    ml = float(brain.sum()) * float(np.prod(t1.geometry.spacing)) / 1000
    return brain if ml <= _LARGEST_BRAIN_ML else None


def _in_si(adc: Volume) -> Volume:
    """The map in mm²/s; files usually hold 1e-6 mm²/s."""
    inside = adc.array[adc.array > 0]
    typical = float(np.median(inside)) if inside.size else 0.0
    if 100 < typical < 4000:
        return adc.with_array(adc.array * np.float32(1e-6))
    if 1e-4 < typical < 4e-3:
        return adc
    raise ValueError(f"{adc.source} has a median of {typical:g}; an ADC map in 1e-6 mm²/s is expected (brain: 800)")
