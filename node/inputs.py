"""What a run over a study works on: fixed when it begins, whatever arrives while it is under way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.errors import StudyError
from node.tables import Instance, Run, Study
from preprocessing.role import Role

Inputs = dict[str, list[Instance]]
"""Instances by role."""


def held(study: Study) -> Inputs:
    """What a run that began now would work on: the current instances of every series with a role."""
    return {
        series.role: [instance for instance in series.instances if instance.current]
        for series in study.series
        if series.role is not None
    }


def digest_inputs(study: Study) -> str:
    """The identity of what a result would be made of: sha256 over roles, SOP Instance UIDs and content digests. Without
    the full dose, with which the result is only compared: when it comes late, a run made again is the same result."""
    return _digest(held(study))


def freeze(session: Session, study: Study) -> None:
    """Write down what the study's run, which begins now, works on."""
    inputs = held(study)
    study.inputs_digest = _digest(inputs)
    numbers = {role: [instance.id for instance in instances] for role, instances in inputs.items()}
    session.add(Run(study_id=study.id, number=study.run, inputs_digest=study.inputs_digest, inputs=numbers))


def of_run(session: Session, study: Study) -> Inputs:
    """What the study's latest run works on.

    Raises StudyError when it is not known: the run began in a version that did not write it down.
    """
    run = _latest(session, study)
    if run is None:
        raise StudyError("it is not known what this run began with; `quarterdose studies force` begins a new one")
    numbers = [number for of_role in run.inputs.values() for number in of_role]
    known = {row.id: row for series in study.series for row in series.instances if row.id in set(numbers)}
    inputs = {role: [known[number] for number in of_role] for role, of_role in run.inputs.items()}
    if _digest(inputs) != study.inputs_digest:
        raise StudyError("instances arrived while it was worked on; `quarterdose studies retry` takes them in")
    return inputs


def changed_roles(session: Session, study: Study) -> tuple[str, ...]:
    """The roles of which the study now holds something else than its latest run works on.

    The full dose counts for none, as in the digest.
    """
    run = _latest(session, study)
    before = {role: set(numbers) for role, numbers in run.inputs.items()} if run is not None else {}
    after = {role: {instance.id for instance in instances} for role, instances in held(study).items()}
    roles = sorted((before.keys() | after.keys()) - {Role.FULL_DOSE})
    return tuple(role for role in roles if before.get(role) != after.get(role))


def _latest(session: Session, study: Study) -> Run | None:
    return session.scalar(select(Run).where(Run.study_id == study.id, Run.number == study.run))


def _digest(inputs: Mapping[str, Sequence[Instance]]) -> str:
    lines = sorted(
        f"{role} {instance.sop_instance_uid} {instance.digest}"
        for role, instances in inputs.items()
        if role != Role.FULL_DOSE
        for instance in instances
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
