"""What modalities have made of a study by their own account (node.mpps): the one word on how many instances there are
that does not come with them, and on their being all.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.mpps import ENDED
from node.settings import Settings
from node.tables import Instance, ProcedureStep, Series, Study
from node.ways import storage_classes

Performed = Mapping[str, set[str]]
"""SOP Instance UIDs by Series Instance UID."""


def performed(session: Session, study: Study, settings: Settings) -> Performed:
    """What was made of the study and this node takes; nothing where nobody wants to hear it."""
    if not settings.completeness.procedure_steps:
        return {}
    made: dict[str, set[str]] = {}
    takes = storage_classes(settings)
    for step in _steps(session, study):
        for series, instances in step.performed.items():
            taken = {uid for uid, sop_class in instances.items() if sop_class in takes}
            made.setdefault(series, set()).update(taken)
    return made


def is_everything_here(session: Session, study: Study, settings: Settings) -> bool:
    """Whether the modalities have ended what they did for the study, and all that they made has arrived."""
    made = {uid for instances in performed(session, study, settings).values() for uid in instances}
    if not made or any(step.status not in ENDED for step in _steps(session, study)):
        return False
    arrived = select(Instance.sop_instance_uid).join(Series).where(Series.study_id == study.id)
    return not made.difference(session.scalars(arrived))


def _steps(session: Session, study: Study) -> list[ProcedureStep]:
    chosen = select(ProcedureStep).where(ProcedureStep.study_instance_uid == study.study_instance_uid)
    return list(session.scalars(chosen))
