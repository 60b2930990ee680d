"""What modalities have made of a study by their own account (node.mpps): the one word on how many instances there are
that does not come with them, and on their being all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.mpps import ENDED
from node.receive import storage_classes
from node.settings import Settings
from node.tables import Instance, ProcedureStep, Series, Study


@dataclass(frozen=True)
class Performed:
    """What was made of a study and this node takes, as SOP Instance UIDs by Series Instance UID, and whether the
    modalities have ended what they did for it."""

    made: Mapping[str, set[str]] = field(default_factory=dict)
    has_ended: bool = False


def performed(session: Session, study: Study, settings: Settings) -> Performed:
    """What the study's steps say; nothing where nobody wants to hear it."""
    if not settings.completeness.procedure_steps:
        return Performed()
    chosen = select(ProcedureStep).where(ProcedureStep.study_instance_uid == study.study_instance_uid)
    steps = session.scalars(chosen).all()
    made: dict[str, set[str]] = {}
    takes = storage_classes(settings)
    for step in steps:
        for series, instances in step.performed.items():
            taken = {uid for uid, sop_class in instances.items() if sop_class in takes}
            made.setdefault(series, set()).update(taken)
    return Performed(made, all(step.status in ENDED for step in steps))


def is_everything_here(session: Session, study: Study, told: Performed) -> bool:
    """Whether the modalities have ended what they did for the study, and all that they made has arrived."""
    made = {uid for instances in told.made.values() for uid in instances}
    if not made or not told.has_ended:
        return False
    arrived = select(Instance.sop_instance_uid).join(Series).where(Series.study_id == study.id)
    return not made.difference(session.scalars(arrived))
