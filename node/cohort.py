"""Sessions for a cohort: from the simulator's volumes, from prepared studies, or from what this node has received."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session as DatabaseSession

from model.cohort import Subject
from model.gather import Session
from node.cohort_subject import Preparing, SeriesFiles, passed, prepared_subject, subject_of
from node.collect import series_facts
from node.files import DataFolder, safe_name
from node.quality.records import is_rejected, latest
from node.settings import Settings
from node.states import State
from node.tables import Instance, QualityCheck, Study
from preprocessing.normalise import scale_of
from preprocessing.role import CHANNELS, Role
from preprocessing.study import PreparedStudy
from preprocessing.volume import FloatArray
from simulator.network import NetworkGridSubject

LESION = ".lesion.npy"
"""Beside a prepared study ``NAME.npz``, its mask of enhancing lesions on the network's grid: ``NAME.lesion.npy``."""


def simulated(folder: Path, roles: tuple[Role, ...]) -> Iterator[Session]:
    """The subjects that ``quarterdose simulate --network-grid`` wrote: each a patient, several on one head."""
    for path in _found(folder, "*.npz"):
        with np.load(path, allow_pickle=False) as content:
            missing = [name for name in ("head", "full_dose", "brain", "lesion") if name not in content.files]
            head = "" if missing else str(content["head"])
        lacks = (f"{path.name} was not written by `quarterdose simulate --network-grid`",) if missing else ()
        yield Session(path.stem, path.stem, head, "", lacks, partial(_simulated_subject, path, roles))


def normalised(subject: NetworkGridSubject, roles: tuple[Role, ...] = CHANNELS) -> Subject:
    """Each series in [0, 1] by the statistics of its own brain, zero outside it (paper, section 2)."""
    brain = subject.brain
    series: dict[Role, FloatArray] = {role: getattr(subject, role.value) for role in (*roles, Role.FULL_DOSE)}
    scales = {role: scale_of(array, brain) for role, array in series.items()}
    unit = {role: np.where(brain, scales[role].to_unit(array), 0).astype(np.float16) for role, array in series.items()}
    return Subject(
        np.stack([unit[role] for role in roles]), unit[Role.FULL_DOSE], brain, subject.lesion & brain, scales
    )


def prepared(folder: Path, roles: tuple[Role, ...]) -> Iterator[Session]:
    """Prepared studies, ``NAME.npz`` as ``PreparedStudy.save`` writes them, each a patient of its own."""
    for path in _found(folder, "*.npz"):
        yield Session(path.stem, path.stem, path.stem, "", (), partial(_prepared_file, path, roles))


def received(settings: Settings, engine: Engine, preparing: Preparing) -> tuple[Session, ...]:
    """The studies of this node. Patients go by a digest of their Patient ID; no name and no UID enters a cohort.

    A study joins when it has every role that is needed (ADC also from DWI) and a full-dose series, which the node
    receives but does not convert: it is converted and prepared here, with all its series, from the received files.
    What quality control rejected stays out, unless a person has accepted it.
    """
    folder = DataFolder(settings.node.data)
    sessions = []
    with DatabaseSession(engine) as database:
        for study in database.scalars(select(Study).order_by(Study.study_date, Study.id)):
            patient = safe_name(study.patient_id or study.study_instance_uid)[:12]
            current = {
                Role(series.role): [instance for instance in series.instances if instance.current]
                for series in study.series
                if series.role is not None
            }
            check = latest(database, study)
            lacks = _lacks(study, set(current), preparing.roles) or _rejection(check)
            load = partial(_received_subject, folder.root, current, "" if check is None else _told(check), preparing)
            sessions.append(Session(f"study_{study.key[:12]}", patient, patient, study.study_date, lacks, load))
    return tuple(sessions)


def _rejection(check: QualityCheck | None) -> tuple[str, ...]:
    if check is None or not is_rejected(check):
        return ()
    return (f"quality control rejected it: {'; '.join(check.reasons)}",)


def _told(check: QualityCheck) -> str:
    """The verdict on a study that may join."""
    if check.accepted_by:
        return f"rejected ({'; '.join(check.reasons)}), but accepted by a person"
    return passed(check.warnings)


def _found(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ValueError(f"there is no {pattern} in {folder}")
    return found


def _simulated_subject(path: Path, roles: tuple[Role, ...]) -> Subject:
    with np.load(path, allow_pickle=False) as content:
        fields = {name: content[name] for name in content.files}
    scalars = {name: array.item() for name, array in fields.items() if array.ndim == 0}
    return normalised(NetworkGridSubject(**{**fields, **scalars}), roles)


def _prepared_file(path: Path, roles: tuple[Role, ...]) -> Subject:
    mask = path.with_name(path.stem + LESION)
    lesion = np.load(mask, allow_pickle=False) if mask.exists() else None
    return subject_of(PreparedStudy.load(path), roles, lesion)


def _lacks(study: Study, there: set[Role], roles: tuple[Role, ...]) -> tuple[str, ...]:
    if State(study.state) is State.RECEIVING:
        return ("series may still come: it is being received",)
    if study.held or study.missing:
        return (*study.held, *study.missing)
    had = there | ({Role.ADC} if Role.DWI in there else set())
    return tuple(f"it has no {role} series" for role in (*roles, Role.FULL_DOSE) if role not in had)


def _received_subject(
    root: Path, instances: Mapping[Role, list[Instance]], quality: str, preparing: Preparing
) -> Subject:
    files = {role: [root / one.path for one in found] for role, found in instances.items()}
    facts = {role: series_facts(found) for role, found in instances.items()}
    return prepared_subject(SeriesFiles(files, facts, (), quality), preparing)
