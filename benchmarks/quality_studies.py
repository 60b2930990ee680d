"""Simulated studies for the quality control benchmark: one clean and, of the same patient, one with a single fault.

Series are acquired in memory on their native grids; DICOM files are written only where the fault lies in the headers.
The simulator's own brain mask stands for HD-BET's, everything else is prepared as the node prepares it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.complete import hold_reasons, missing_roles
from node.header.instance import scan
from node.quality.headers import header_measures
from node.roles.identify import identify
from node.roles.series_facts import SeriesFacts
from node.settings import load_settings
from preprocessing.bias import correct_bias
from preprocessing.grid import NETWORK_GRID
from preprocessing.normalise import scale_of
from preprocessing.prepare import CHANNELS
from preprocessing.quality.measure import Measure
from preprocessing.quality.study import measure
from preprocessing.register import affine_to_template, rigid
from preprocessing.resample import Matrix, inverse, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import Geometry, Role, Volume
from simulator.acquisition import Acquired, ScanEffects, acquire
from simulator.artefacts import Artefact, ArtefactKind
from simulator.deformation import rotation
from simulator.dicom.identity import Examination
from simulator.dicom.series import stored
from simulator.grid import Grid
from simulator.network import draw_scanner
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.study import Subject, simulate_subject, start_of, write_series

COUNTS = 400.0  # stored value of white matter


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


@dataclass
class Patient:
    """A simulated patient on a scanner drawn from the seed, and the series as they should be."""

    seed: int
    anatomy: Path
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = stream(self.seed, "quality fault")
        self.scanner = replace(draw_scanner(self.seed), scanner_adc=True)
        everything = examination(self.scanner, stream(self.seed, "examination"))
        self.plans = tuple(plan for plan in everything if plan.kind is not Kind.FULL_DOSE)

    @cached_property
    def subject(self) -> Subject:
        return simulate_subject(self.seed, self.anatomy)

    @cached_property
    def series(self) -> dict[Kind, Acquired]:
        return self.acquired()

    def acquired(self, effects: ScanEffects | None = None, kinds: tuple[Kind, ...] = ()) -> dict[Kind, Acquired]:
        """The series of these kinds (all without any), acquired with ``effects``."""
        plans = tuple(plan for plan in self.plans if not kinds or plan.kind in kinds)
        return {one.plan.kind: one for one in acquire(self.subject, self.scanner, plans, effects)}

    def clean(self) -> tuple[dict[Role, Volume], PreparedStudy]:
        volumes = as_volumes(self.series)
        return volumes, self.prepared(volumes)

    def prepared(self, volumes: Mapping[Role, Volume]) -> PreparedStudy:
        """The study as ``preprocessing.prepare`` makes it, but with the true brain mask."""
        t1 = volumes[Role.T1]
        brain = resample(Volume(self.subject.brain.astype(np.float32), geometry(self.subject.grid)), like=t1.geometry)
        return prepared(volumes, brain.array > 0.5)


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


def prepared(volumes: Mapping[Role, Volume], brain: NDArray[np.bool_]) -> PreparedStudy:
    """Registration, N4, resampling and normalisation, given the T1's brain."""
    t1 = volumes[Role.T1]
    to_t1 = affine_to_template(t1, brain)
    transforms: dict[Role, Matrix] = {}
    corrected = dict(volumes)
    for role in CHANNELS:
        if role not in volumes:
            continue
        guide = volumes[Role.DWI] if role is Role.ADC and Role.DWI in volumes else volumes[role]
        from_t1 = np.eye(4) if role is Role.T1 else rigid(t1, brain, guide)
        transforms[role] = from_t1 @ to_t1
        if role is not Role.ADC:
            here = resample(t1.with_array(brain), like=volumes[role].geometry, transform=inverse(from_t1)).array > 0.5
            corrected[role] = correct_bias(volumes[role], here)
    mask = resample(t1.with_array(brain), like=NETWORK_GRID, transform=to_t1).array > 0.5
    return on_grid(corrected, mask, transforms)


def on_grid(
    volumes: Mapping[Role, Volume], brain: NDArray[np.bool_], transforms: Mapping[Role, Matrix]
) -> PreparedStudy:
    """The series on the network grid, normalised inside ``brain``."""
    arrays = {
        role: resample(volumes[role], like=NETWORK_GRID, transform=matrix, outside=np.nan).array
        for role, matrix in transforms.items()
    }
    scales = {role: scale_of(array, brain & np.isfinite(array)) for role, array in arrays.items()}
    unit = [
        np.where(brain & np.isfinite(array), scales[role].to_unit(np.nan_to_num(array)), 0).astype(np.float32)
        for role, array in arrays.items()
    ]
    return PreparedStudy(tuple(arrays), np.stack(unit), brain, transforms, scales)


def as_volumes(series: Mapping[Kind, Acquired]) -> dict[Role, Volume]:
    """Acquired series as converted ones; of diffusion the b=0 image."""
    found = {}
    for kind, one in series.items():
        array = one.volumes[min(one.volumes, key=lambda weighting: weighting.b)]
        scaled = array if kind is Kind.ADC else np.rint(array * COUNTS)
        found[Role(str(kind))] = Volume(scaled.astype(np.float32), geometry(one.plan.grid), str(kind))
    return found


def geometry(grid: Grid) -> Geometry:
    """The simulator's grid in the preprocessing's words."""
    i, j, k = (float(value) for value in grid.origin)
    return Geometry(grid.size, (i, j, k), grid.spacing, tuple(float(value) for value in np.ravel(grid.directions)))


def without_end(volume: Volume, share: float, top: bool) -> Volume:
    """The volume without this share of its slices at one end."""
    old = volume.geometry
    lost = round(volume.array.shape[0] * share)
    kept = slice(0, -lost) if top else slice(lost, None)
    origin = old.affine @ [0.0, 0.0, 0.0 if top else float(lost), 1.0]
    size = (old.size[0], old.size[1], old.size[2] - lost)
    moved = replace(old, size=size, origin=(float(origin[0]), float(origin[1]), float(origin[2])))
    return Volume(volume.array[kept], moved, volume.source)


_Seen = tuple[tuple[Measure, ...], tuple[str, ...]]


def _of_files(folder: Path) -> _Seen:
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


def _both(patient: Patient, spoil: object) -> tuple[_Seen, _Seen]:
    assert callable(spoil)
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


def _order(patient: Patient) -> tuple[_Seen, _Seen]:
    late = next(plan for plan in patient.plans if plan.kind is Kind.LOW_DOSE)
    return _both(patient, lambda folder, exam: _again(patient, folder, exam, replace(late, start=-8.0)))


def _patient(patient: Patient) -> tuple[_Seen, _Seen]:
    late = next(plan for plan in patient.plans if plan.kind is Kind.LOW_DOSE)

    def spoil(folder: Path, exam: Examination) -> None:
        stranger = replace(exam.person, identifier=f"{exam.person.identifier}X")
        _again(patient, folder, replace(exam, person=stranger), late)

    return _both(patient, spoil)


def _slices(patient: Patient) -> tuple[_Seen, _Seen]:
    def spoil(folder: Path, exam: Examination) -> None:
        files = sorted(next(folder.glob(f"*_{Kind.FLAIR}")).glob("*.dcm"))
        first = int(patient.rng.integers(1, len(files) - 3))
        for path in files[first : first + int(patient.rng.integers(1, 3))]:
            path.unlink()

    return _both(patient, spoil)


def _dose(patient: Patient) -> tuple[_Seen, _Seen]:
    def spoil(folder: Path, exam: Examination) -> None:
        import pydicom

        for path in sorted(next(folder.glob(f"*_{Kind.LOW_DOSE}")).glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            for keyword in ("ContrastBolusVolume", "ContrastBolusTotalDose"):
                dataset.pop(keyword, None)
            dataset.save_as(path)

    return _both(patient, spoil)


_IN_HEADERS = {Fault.ORDER: _order, Fault.PATIENT: _patient, Fault.MISSING_SLICES: _slices, Fault.DOSE: _dose}
