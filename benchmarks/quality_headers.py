"""Faults of simulated studies that lie in the headers: a study is written as DICOM files, and again with the fault."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom

from benchmarks.quality_patient import Patient
from node.complete import hold_reasons, missing_roles
from node.header.instance import scan
from node.quality.headers import header_measures
from node.roles.identify import identify
from node.roles.series_facts import SeriesFacts
from node.settings import load_settings
from preprocessing.quality.measure import Measure
from simulator.dicom.identity import Examination
from simulator.dicom.series import stored
from simulator.protocol import Kind, SeriesPlan
from simulator.study import start_of, write_series

Seen = tuple[tuple[Measure, ...], tuple[str, ...]]
"""The measures of a study's headers, and what kept the node from processing it. Each function below gives them for the
patient's clean study and for the spoiled one."""


def _of_files(folder: Path) -> Seen:
    """What the node makes of the headers below ``folder``: measures, and what keeps it from processing the study."""
    settings = load_settings(Path("config.toml"))
    facts = [
        SeriesFacts.of([scan(path) for path in sorted(place.glob("*.dcm"))]) for place in sorted(folder.iterdir())
    ]
    decisions = identify(facts, settings.roles)
    held = (*hold_reasons(facts), *missing_roles(decisions, facts, settings.completeness.required))
    by_role = {role: one for one in facts if (role := decisions[one.uid].role) is not None}
    return header_measures(by_role), held


def _written(patient: Patient, folder: Path, exam: Examination, plans: tuple[SeriesPlan, ...]) -> None:
    for plan in plans:
        write_series(exam, stored(replace(patient.series[plan.kind], plan=plan), patient.scanner, 1.0), folder)


def _examination(patient: Patient) -> Examination:
    return Examination(f"quality {patient.seed}", patient.subject.person, patient.scanner, start_of(patient.seed))


def _both(patient: Patient, spoil: Callable[[Path, Examination], None]) -> tuple[Seen, Seen]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        exam = _examination(patient)
        _written(patient, folder, exam, patient.plans)
        clean = _of_files(folder)
        spoil(folder, exam)
        return clean, _of_files(folder)


def _again(patient: Patient, folder: Path, exam: Examination, plan: SeriesPlan) -> None:
    """One series written anew."""
    shutil.rmtree(next(folder.glob(f"*_{plan.kind}")))
    _written(patient, folder, exam, (plan,))


def order(patient: Patient) -> tuple[Seen, Seen]:
    """The low dose was acquired before the T1."""
    late = next(plan for plan in patient.plans if plan.kind is Kind.LOW_DOSE)
    return _both(patient, lambda folder, exam: _again(patient, folder, exam, replace(late, start=-8.0)))


def another_patient(patient: Patient) -> tuple[Seen, Seen]:
    """The low dose has another Patient ID."""
    late = next(plan for plan in patient.plans if plan.kind is Kind.LOW_DOSE)

    def spoil(folder: Path, exam: Examination) -> None:
        stranger = replace(exam.person, identifier=f"{exam.person.identifier}X")
        _again(patient, folder, replace(exam, person=stranger), late)

    return _both(patient, spoil)


def missing_slices(patient: Patient) -> tuple[Seen, Seen]:
    """One or two slices inside the FLAIR are missing."""
    def spoil(folder: Path, exam: Examination) -> None:
        files = sorted(next(folder.glob(f"*_{Kind.FLAIR}")).glob("*.dcm"))
        first = int(patient.rng.integers(1, len(files) - 3))
        for path in files[first : first + int(patient.rng.integers(1, 3))]:
            path.unlink()

    return _both(patient, spoil)


def no_dose(patient: Patient) -> tuple[Seen, Seen]:
    """The low dose says neither volume nor dose."""
    def spoil(folder: Path, exam: Examination) -> None:
        for path in sorted(next(folder.glob(f"*_{Kind.LOW_DOSE}")).glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            for keyword in ("ContrastBolusVolume", "ContrastBolusTotalDose"):
                dataset.pop(keyword, None)
            dataset.save_as(path)

    return _both(patient, spoil)
