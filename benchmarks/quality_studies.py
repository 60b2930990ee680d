"""Simulated studies for the quality control benchmark: one clean and, of the same patient, one with a single fault.

Series are acquired in memory on their native grids; DICOM files are written only where the fault lies in the headers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from benchmarks import quality_headers as headers
from benchmarks.quality_patient import Patient, as_volumes, on_grid, without_end
from preprocessing.grid import NETWORK_GRID
from preprocessing.quality.measure import Measure
from preprocessing.quality.study import measure
from preprocessing.resample import resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role, Volume
from simulator.acquisition import ScanEffects, acquire
from simulator.artefacts import Artefact, ArtefactKind
from simulator.deformation import rotation
from simulator.protocol import Kind


class Fault(StrEnum):
    """What is wrong with a study."""

    NONE = "none"
    MOTION = "motion"
    WRAP = "wrap-around"
    MISSING_SLICES = "missing slices"
    VERTEX = "cropped vertex"
    PATIENT = "wrong patient"
    ORDER = "low-dose before T1"
    DOSE = "dose missing"
    SPIKES = "spikes"
    BIAS = "strong bias"
    REGISTRATION = "failed registration"


FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
_ARTEFACTS = {
    Fault.MOTION: ArtefactKind.GHOSTING, Fault.WRAP: ArtefactKind.WRAP_AROUND, Fault.SPIKES: ArtefactKind.SPIKES,
    Fault.BIAS: ArtefactKind.BIAS, Fault.VERTEX: ArtefactKind.CROPPING,
}  # fmt: skip
_IN_HEADERS = {
    Fault.ORDER: headers.order, Fault.PATIENT: headers.another_patient, Fault.MISSING_SLICES: headers.missing_slices,
    Fault.DOSE: headers.no_dose,
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One study's measures; ``held`` is what kept the node from processing it at all, or made preparation fail."""

    seed: int
    fault: Fault
    detail: str
    measures: tuple[Measure, ...]
    held: tuple[str, ...] = ()

    def line(self) -> str:
        values = [[one.name, one.role, one.value if one.known else None] for one in self.measures]
        return json.dumps({"seed": self.seed, "fault": self.fault, "detail": self.detail, "measures": values,
                           "held": self.held})  # fmt: skip

    @classmethod
    def read(cls, line: str) -> Record:
        row = json.loads(line)
        measures = tuple(
            Measure(name, float("nan") if value is None else value, None if role is None else Role(role))
            for name, role, value in row["measures"]
        )
        return cls(row["seed"], Fault(row["fault"]), row["detail"], measures, tuple(row["held"]))


def pair(seed: int, anatomy: Path, fault: Fault) -> list[Record]:
    """The clean study of one patient and, unless ``fault`` is NONE, the same with that fault."""
    patient = Patient(seed, anatomy)
    volumes, study = patient.clean()
    measures = measure(volumes, study)
    if fault is Fault.NONE:
        return [Record(seed, Fault.NONE, "", measures)]
    in_headers = fault in _IN_HEADERS and (seed // len(FAULTS)) % 2 == 0
    if in_headers:
        clean, spoiled = _IN_HEADERS[fault](patient)
        return [
            Record(seed, Fault.NONE, "", (*measures, *clean[0]), clean[1]),
            Record(seed, fault, "in the headers", (*measures, *spoiled[0]), spoiled[1]),
        ]
    try:
        bad, prepared_bad, detail = _spoil(patient, volumes, study, fault)
        found, held = measure(bad, prepared_bad), ()
    except ValueError as error:  # the preparation itself refused the study: as good as a rejection
        found, held, detail = (), (str(error),), "preparation failed"
    return [Record(seed, Fault.NONE, "", measures), Record(seed, fault, detail, found, held)]


def _spoil(
    patient: Patient, volumes: dict[Role, Volume], study: PreparedStudy, fault: Fault
) -> tuple[dict[Role, Volume], PreparedStudy, str]:
    """The spoiled series, the study prepared from them, and what was done."""
    rng = patient.rng
    if fault is Fault.REGISTRATION:
        return volumes, *_spoiled_registration(volumes, study, rng)
    if fault in _ARTEFACTS:
        kinds = [Kind.T1, Kind.LOW_DOSE, Kind.FLAIR]
        kind, severity = kinds[int(rng.integers(3))], float(rng.uniform(0.5, 1.0))
        ordered = Artefact(_ARTEFACTS[fault], severity, kind)
        changed = patient.acquired(ScanEffects(artefacts=(ordered,)), (kind,))
        bad, detail = volumes | as_volumes(changed), f"{kind}, severity {severity:.2f}"
    elif fault is Fault.MISSING_SLICES:
        role = [Role.FLAIR, Role.ADC][int(rng.integers(2))]
        share, top = float(rng.uniform(0.25, 0.45)), bool(rng.integers(2))
        roles = (Role.ADC, Role.DWI) if role is Role.ADC else (role,)
        bad = volumes | {one: without_end(volumes[one], share, top) for one in roles}
        detail = f"{share:.0%} of {role} at the {'upper' if top else 'lower'} end"
    elif fault is Fault.PATIENT:
        other = as_volumes(Patient(patient.seed + 500_000, patient.anatomy).acquired(kinds=(Kind.LOW_DOSE,)))
        bad, detail = volumes | other, "another head under the same Patient ID"
    elif fault is Fault.ORDER:
        bad = volumes | {Role.T1: volumes[Role.LOW_DOSE], Role.LOW_DOSE: volumes[Role.T1]}
        detail = "the two images exchanged"
    else:
        plans = {plan.kind: plan for plan in patient.plans}
        bare = replace(plans[Kind.LOW_DOSE], injections=())
        bad = volumes | as_volumes({one.plan.kind: one for one in acquire(patient.subject, patient.scanner, (bare,))})
        detail = "nothing was injected"
    return bad, patient.prepared(bad), detail


def _spoiled_registration(
    volumes: Mapping[Role, Volume], study: PreparedStudy, rng: np.random.Generator
) -> tuple[PreparedStudy, str]:
    """One series, or the whole study against the template, 5 to 15 mm and up to 10 degrees from its place."""
    what = [*study.channels][int(rng.integers(len(study.channels)))]
    error = np.eye(4)
    turn, shift = rng.normal(size=3), rng.normal(size=3)
    error[:3, :3] = rotation(turn / np.linalg.norm(turn) * rng.uniform(2, 10))
    error[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(5, 15)
    spoiled = study.channels if what is Role.T1 else (what,)
    transforms = {role: matrix @ error if role in spoiled else matrix for role, matrix in study.transforms.items()}
    brain = study.brain
    if what is Role.T1:
        here = Volume(brain.astype(np.float32), NETWORK_GRID)
        brain = resample(here, like=NETWORK_GRID, transform=error).array > 0.5
    return on_grid(volumes, brain, transforms), f"{'template' if what is Role.T1 else what}"
