"""What modalities say they have performed: Modality Performed Procedure Steps (PS3.4 Annex F), kept study by study.

A step names every instance that it made; node.performed tells what that says of a study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.tables import Event, ProcedureStep, Study, now

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
ENDED = (COMPLETED, DISCONTINUED)

# PS3.7 Annex C
NO_SUCH_OBJECT, DUPLICATE, INVALID_OBJECT = 0x0112, 0x0111, 0x0117
MISSING_ATTRIBUTE, INVALID_VALUE, PROCESSING_FAILURE = 0x0120, 0x0106, 0x0110
RESOURCE_LIMITATION = 0x0213  # the modality tries again
NO_LONGER_UPDATED = 0xA710  # Error ID, PS3.4 table F.7.2-2


class StepError(Exception):
    """A request that cannot be followed, with the status that says so and, where there is one, the Error ID."""

    def __init__(self, status: int, why: str, error_id: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.error_id = error_id


def create(session: Session, uid: str, step: Dataset, sender: str) -> None:
    """A step that has begun (N-CREATE, PS3.4 F.7.2.1). Raises StepError."""
    if not uid:
        raise StepError(INVALID_OBJECT, "the request names no Affected SOP Instance UID")
    if _status(step) != IN_PROGRESS:
        raise StepError(INVALID_VALUE, f"Performed Procedure Step Status (0040,0252) must be {IN_PROGRESS} at first")
    studies = dict.fromkeys(
        str(item.StudyInstanceUID) for item in step.get("ScheduledStepAttributesSequence") or []
        if item.get("StudyInstanceUID")
    )  # fmt: skip
    if not studies:
        raise StepError(MISSING_ATTRIBUTE, "no Study Instance UID in Scheduled Step Attributes Sequence (0040,0270)")
    if _rows(session, uid):
        raise StepError(DUPLICATE, "there is a step of this SOP Instance UID")
    for study in studies:
        row = ProcedureStep(
            sop_instance_uid=uid, study_instance_uid=study, status=IN_PROGRESS, sender=sender,
            station=str(step.get("PerformedStationAETitle") or ""), performed={},
        )  # fmt: skip
        session.add(row)
        _follow(session, row, step)


def update(session: Session, uid: str, step: Dataset) -> None:
    """What has become of a step (N-SET, PS3.4 F.7.2.2). Raises StepError."""
    rows = _rows(session, uid)
    if not rows:
        raise StepError(NO_SUCH_OBJECT, "there is no step of this SOP Instance UID")
    if any(row.status in ENDED for row in rows):
        why = "Performed Procedure Step Object may no longer be updated"
        raise StepError(PROCESSING_FAILURE, why, NO_LONGER_UPDATED)
    status = _status(step) or IN_PROGRESS
    if status not in (IN_PROGRESS, *ENDED):
        raise StepError(INVALID_VALUE, f"Performed Procedure Step Status (0040,0252) is {status!r}")
    for row in rows:
        row.status = status
        _follow(session, row, step)


def _follow(session: Session, row: ProcedureStep, step: Dataset) -> None:
    """Take in what the attributes say, and have the study judged anew where there is one."""
    row.updated = now()
    if "PerformedSeriesSequence" in step:  # the whole of it each time
        row.performed = _performed(step.PerformedSeriesSequence or [])
    row.reason = "; ".join(
        str(item.get("CodeMeaning") or item.get("CodeValue") or "")
        for item in step.get("PerformedProcedureStepDiscontinuationReasonCodeSequence") or []
    ) or row.reason or ""  # fmt: skip
    study = session.scalar(select(Study).where(Study.study_instance_uid == row.study_instance_uid))
    if study is not None:
        study.unjudged = True
        count = sum(len(instances) for instances in row.performed.values())
        why = f"{count} instances of {len(row.performed)} series" + (f"; {row.reason}" if row.reason else "")
        session.add(Event(study_id=study.id, who=row.sender, what=f"procedure step {row.status}", why=why))


def _performed(series: Iterable[Dataset]) -> dict[str, Any]:
    """The SOP Class UIDs by SOP Instance UID by Series Instance UID."""
    made: dict[str, Any] = {}
    for item in series:
        if not item.get("SeriesInstanceUID"):
            continue
        referenced = [
            *(item.get("ReferencedImageSequence") or []),
            *(item.get("ReferencedNonImageCompositeSOPInstanceSequence") or []),
        ]
        made.setdefault(str(item.SeriesInstanceUID), {}).update(
            (str(one.ReferencedSOPInstanceUID), str(one.get("ReferencedSOPClassUID") or ""))
            for one in referenced if one.get("ReferencedSOPInstanceUID")
        )  # fmt: skip
    return made


def _rows(session: Session, uid: str) -> Sequence[ProcedureStep]:
    return session.scalars(select(ProcedureStep).where(ProcedureStep.sop_instance_uid == uid)).all()


def _status(step: Dataset) -> str:
    return str(step.get("PerformedProcedureStepStatus") or "")
