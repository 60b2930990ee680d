"""What a person may do with a study: retry, cancel, force. Each is an event that names the person and the reason."""

from __future__ import annotations

import getpass
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.collect import digest_inputs, enqueue, judge
from node.deliver import SENT
from node.engine import WorkStarter, workflow_id
from node.settings import Settings
from node.states import WORKING, State, TransitionError, move
from node.tables import Delivery, DerivedSeriesRow, Study


class UnknownStudyError(Exception):
    """No study, or more than one, answers to what was asked for."""


def find(session: Session, name: str) -> Study:
    """The study with this key (or the beginning of it), Study Instance UID or accession number.

    Raises UnknownStudyError with what to do when there is none or more than one.
    """
    escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    found = session.scalars(
        select(Study).where(
            Study.key.like(f"{escaped}%", escape="\\")
            | (Study.study_instance_uid == name)
            | (Study.accession_number == name)
        )
    ).all()
    if len(found) == 1 and name:
        return found[0]
    what = f"{len(found)} studies answer to" if found and name else "no study answers to"
    raise UnknownStudyError(f"{what} {name!r}; `quarterdose studies list` shows their keys")


def retry(session: Session, study: Study, settings: Settings, starter: WorkStarter) -> str:
    """Do it again: from the step that failed when the inputs are the same, else as a new run. Returns what was begun.

    Raises TransitionError when the study is not in a state to retry from.
    """
    who = person()
    if State(study.state) in WORKING:
        raise TransitionError(f"study {study.key} is {study.state}: it is being worked on; cancel it first")
    judge(session, study, settings)
    unchanged = study.run > 0 and study.inputs_digest == digest_inputs(study)
    if State(study.state) is State.FAILED and unchanged:
        open_places = _open_destinations(session, study)
        if starter.status(study) == "SUCCESS" and open_places:
            move(session, study, State.QUEUED, "retried: delivery", who)
            move(session, study, State.DELIVERING, "retried: delivery", who)
            session.flush()
            for place in open_places:
                starter.deliver(session, study, place, f"{workflow_id(study)}-deliver-{place}-{uuid.uuid4().hex[:8]}")
            return f"delivery to {', '.join(open_places)}"
        return _resume(session, study, starter, who)
    if study.missing:
        raise TransitionError(f"study {study.key} lacks: {'; '.join(study.missing)}; send it, or force the study")
    enqueue(session, study, starter, "retried by a person", who)
    return f"run {study.run}"


def _resume(session: Session, study: Study, starter: WorkStarter, who: str) -> str:
    if starter.status(study) is None:
        enqueue(session, study, starter, "retried by a person", who)
        return f"run {study.run}"
    move(session, study, State.QUEUED, "retried by a person, from the step that failed", who)
    session.commit()  # the engine writes through a connection of its own; it must not wait for ours (note 5)
    starter.resume(study)
    return f"run {study.run}, from the step that failed"


def cancel(session: Session, study: Study, starter: WorkStarter) -> None:
    """Stop the study where it is. Raises TransitionError when it is finished."""
    move(session, study, State.CANCELLED, "cancelled by a person", person())
    session.commit()
    starter.cancel(study)


def force(session: Session, study: Study, settings: Settings, starter: WorkStarter) -> None:
    """Process what is there, complete or not: the person takes responsibility, and it is recorded."""
    judge(session, study, settings)
    lacking = "; ".join(study.missing) or "nothing"
    enqueue(session, study, starter, f"forced by a person; lacking: {lacking}", person())


def person() -> str:
    """Who is at the keyboard."""
    return f"person {getpass.getuser()}"


def _open_destinations(session: Session, study: Study) -> list[str]:
    query = (
        select(Delivery.destination)
        .join(DerivedSeriesRow, Delivery.derived_series_id == DerivedSeriesRow.id)
        .where(DerivedSeriesRow.study_id == study.id, Delivery.state != SENT)
        .distinct()
    )
    return list(session.scalars(query))
