"""Who joins a cohort: complete sessions, one per patient, none that a person rejected (paper, section 2, "Data and
preprocessing"); everybody else is left out by name, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.ndimage import label

from model.claim import claimed
from model.cohort import (
    INDEX,
    Cohort,
    CohortError,
    LeftOut,
    Subject,
    drop_subject,
    left_out,
    note_left_out,
    write_subject,
)
from model.shrink import shrink
from preprocessing.volume import Role


@dataclass(frozen=True)
class Session:
    """One examination that may join. ``patient`` is a pseudonym, ``date`` sorts a patient's sessions, ``lacks`` says in
    words what makes it incomplete, ``load`` makes its arrays and raises ValueError where that fails. ``anatomy`` names
    the head where several patients were simulated on one; a patient's own otherwise."""

    name: str
    patient: str
    anatomy: str
    date: str
    lacks: tuple[str, ...]
    load: Callable[[], Subject]


@dataclass(frozen=True)
class Gathered:
    """What came of one session: ``why`` it was left out, empty when it joined or was there already."""

    session: Session
    why: str = ""


@dataclass(frozen=True)
class SubjectDescription:
    """One subject; ``lesions`` is the number of enhancing ones, volumes are in millilitres."""

    name: str
    patient: str
    anatomy: str
    lesions: int
    lesion_ml: float
    brain_ml: int
    quality: str


@dataclass(frozen=True)
class CohortDescription:
    """What ``quarterdose cohort show`` tells; ``shape`` is that of all arrays, in words, ``anatomies`` their number."""

    folder: str
    digest: str
    roles: tuple[Role, ...]
    voxel_mm: float
    shape: str
    anatomies: int
    subjects: tuple[SubjectDescription, ...]
    left_out: tuple[LeftOut, ...]


def gather(
    folder: Path,
    roles: tuple[Role, ...],
    sessions: Iterable[Session],
    *,
    rejected: Mapping[str, str],
    shrunk: int = 1,
    told: Callable[[Gathered], None],
) -> tuple[Gathered, ...]:
    """Write each patient's first complete session to the cohort in ``folder`` and note the others as left out.

    ``rejected``: session to reason. ``shrunk``: the factor of ``model.shrink``. Sessions that are there are kept, so
    an interrupted call can be repeated. ``told`` hears of each session as it is decided. Raises CohortError for a
    cohort of other roles or another grid, or one that another process adds to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder, wait=False) as ours:
        if not ours:
            raise CohortError(f"another process is adding to {folder}: wait until it is done")
        return _gather(folder, roles, sessions, rejected, shrunk, told)


def _gather(
    folder: Path,
    roles: tuple[Role, ...],
    sessions: Iterable[Session],
    rejected: Mapping[str, str],
    shrunk: int,
    told: Callable[[Gathered], None],
) -> tuple[Gathered, ...]:
    there = _there(folder, roles, float(shrunk))
    owner = {name: patient for patient, name in there.items()}
    results: list[Gathered] = []
    ordered = sorted(sessions, key=lambda one: (one.patient, one.date, one.name))
    for patient, theirs in groupby(ordered, key=lambda one: one.patient):
        taken = there.get(patient, "")
        if taken in rejected:
            drop_subject(folder, taken)
            taken = ""
        for session in theirs:
            why = rejected.get(session.name, "") and f"rejected: {rejected[session.name]}"
            if not why and taken and taken != session.name:
                why = f"another session of the patient is in the cohort: {taken}"
            if not why and owner.setdefault(session.name, patient) != patient:
                why = f"a session of another patient has its name: {owner[session.name]}"
            if not why and not taken:
                why = "; ".join(session.lacks) or _write(folder, roles, session, shrunk)
                taken = "" if why else session.name
            results.append(Gathered(session, why))
            if why:
                note_left_out(folder, [LeftOut(session.name, patient, why)])
            told(results[-1])
    note_left_out(folder, [])
    return tuple(results)


def describe(folder: Path) -> CohortDescription:
    """A cohort: its subjects with their lesions, and who was left out. Raises CohortError for what is no cohort."""
    cohort = Cohort.open(folder)
    subjects = []
    shape = ""
    for record in cohort.subjects:
        subject = cohort.read(record)
        ml = cohort.voxel_mm**3 / 1000
        count = int(label(subject.lesion, np.ones((3, 3, 3)))[1])
        shape = " × ".join(map(str, subject.brain.shape))
        subjects.append(SubjectDescription(
            name=record.name, patient=record.patient or record.name, anatomy=record.anatomy, lesions=count,
            lesion_ml=round(float(subject.lesion.sum()) * ml, 2), brain_ml=round(float(subject.brain.sum()) * ml),
            quality=record.quality,
        ))  # fmt: skip
    return CohortDescription(
        folder=str(folder), digest=cohort.digest, roles=cohort.roles, voxel_mm=cohort.voxel_mm, shape=shape,
        anatomies=len(cohort.anatomies), subjects=tuple(subjects), left_out=tuple(left_out(folder)),
    )  # fmt: skip


def _there(folder: Path, roles: tuple[Role, ...], voxel_mm: float) -> dict[str, str]:
    """Patient to session of those in the cohort."""
    if not (folder / INDEX).exists():
        return {}
    cohort = Cohort.open(folder)
    if cohort.stored_roles != roles:
        raise CohortError(f"{folder} holds {', '.join(cohort.stored_roles)}, not {', '.join(roles)}: name another one")
    if cohort.voxel_mm != voxel_mm:
        raise CohortError(f"{folder} has voxels of {cohort.voxel_mm:g} mm, not {voxel_mm:g}: name another folder")
    return {record.patient or record.name: record.name for record in cohort.subjects}


def _write(folder: Path, roles: tuple[Role, ...], session: Session, shrunk: int) -> str:
    """Write the session's subject; returns why that could not be done, or nothing."""
    try:
        subject = shrink(session.load(), shrunk)
        write_subject(
            folder, session.name, session.anatomy, roles, subject, patient=session.patient, voxel_mm=float(shrunk)
        )
    except (ValueError, CohortError) as error:
        return f"cannot be prepared: {error}"
    return ""
