"""What a person may do with a study: retry, cancel, force. Each is an event that names the person and the reason."""

from __future__ import annotations

import getpass
import os
import uuid

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import priors
from node.collect import enqueue, judge, study_facts
from node.database import writing
from node.engine import FINISHED, RESUMABLE, WorkStarter, workflow_id
from node.inputs import digest_inputs
from node.ledger import open_deliveries
from node.performed import performed
from node.quality import records
from node.routing.record import route_for, route_of
from node.settings import Settings
from node.states import WORKING, State, TransitionError, Trigger, move
from node.tables import Study, now


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


def retry(engine: Engine, name: str, settings: Settings, starter: WorkStarter) -> str:
    """Do it again: from the step that failed when the inputs are the same, else as a new run. Returns what was begun.

    Raises UnknownStudyError, or TransitionError when the study is being worked on, lacks something, or can never be
    processed.
    """
    with writing(engine) as session:
        study = find(session, name)
        _refuse_what_cannot_begin(session, study, settings)
        run = workflow_id(study)
        stopped = State(study.state) in (State.FAILED, State.REJECTED, State.CANCELLED)
        status = starter.status(run) if stopped and study.inputs_digest == digest_inputs(study) else None
        if status not in (*RESUMABLE, FINISHED):
            if study.missing:
                lacking = "; ".join(study.missing)
                raise TransitionError(f"study {study.key} lacks {lacking}: send it, or force the study")
            route = route_for(study, study_facts(study), settings.rule)
            enqueue(session, study, starter, route, Trigger.RETRIED, "retried by a person", person())
            priors.seek(session, study, settings, starter)
            return f"run {study.run}"
        move(session, study, Trigger.RETRIED, "retried by a person, from where it stopped", person())
        if status == FINISHED:
            return _deliver_again(session, study, settings, starter)
    # Outside the transaction: the engine writes through a connection of its own (engine note 5).
    starter.resume(run)
    return "from the step that failed"


def cancel(engine: Engine, name: str, starter: WorkStarter) -> None:
    """Stop the study where it is. Raises UnknownStudyError, or TransitionError when it is finished."""
    with writing(engine) as session:
        study = find(session, name)
        move(session, study, Trigger.CANCELLED, "cancelled by a person", person())
        run = workflow_id(study)
    starter.cancel(run)


def force(engine: Engine, name: str, settings: Settings, starter: WorkStarter) -> str:
    """Process what is there, complete or not: the person takes responsibility, and it is recorded.

    Raises as ``retry``: what can never be processed, two patients in one study say, cannot be forced either.
    """
    with writing(engine) as session:
        study = find(session, name)
        _refuse_what_cannot_begin(session, study, settings)
        lacking = "; ".join(study.missing) or "nothing"
        route = route_for(study, study_facts(study), settings.rule)
        enqueue(session, study, starter, route, Trigger.FORCED, f"forced by a person; lacking: {lacking}", person())
        priors.seek(session, study, settings, starter)
        return f"run {study.run}"


def accept(engine: Engine, name: str, because: str, starter: WorkStarter) -> str:
    """Process a study that quality control rejected: a person says why, and it is recorded and told in the result.

    Raises UnknownStudyError, or TransitionError when there is nothing to accept, no reason is given, or instances have
    come since.
    """
    if not because.strip():
        raise TransitionError("say why the study is good enough: --because \"...\"; it is written into the result")
    with writing(engine) as session:
        study = find(session, name)
        if State(study.state) is not State.REJECTED:
            raise TransitionError(f"study {study.key} is {study.state}, not REJECTED: there is nothing to accept")
        check = records.latest(session, study)
        if check is None or study.inputs_digest != digest_inputs(study):
            raise TransitionError(f"instances of study {study.key} came after it was rejected: retry it first")
        check.accepted_by, check.accepted_because, check.accepted = person(), because.strip(), now()
        why = f"accepted by a person: {because.strip()}; rejected because: {'; '.join(check.reasons)}"
        move(session, study, Trigger.ACCEPTED, why, person())
        run = workflow_id(study)
    starter.resume(run)
    return "from quality control on"


def person() -> str:
    """Who is at the keyboard, also behind sudo."""
    return f"person {os.environ.get('SUDO_USER') or getpass.getuser()}"


def _refuse_what_cannot_begin(session: Session, study: Study, settings: Settings) -> None:
    if State(study.state) in WORKING:
        raise TransitionError(f"study {study.key} is {study.state}: it is being worked on; cancel it first")
    judge(session, study, settings, performed(session, study, settings))
    if study.held:
        raise TransitionError(f"study {study.key} can not be processed: {'; '.join(study.held)}")


def _deliver_again(session: Session, study: Study, settings: Settings, starter: WorkStarter) -> str:
    """The result is made; what is still open goes out again. With nothing open, one look finds that out."""
    move(session, study, Trigger.DELIVER, "the result is made", person())
    open_places = {row.destination for row in session.scalars(open_deliveries(study))}
    route = route_of(session, study)
    wanted = [place.name for place in settings.destination if route.goes_to(place.name)]
    places = [place for place in wanted if place in open_places]
    for place in places or [settings.destination[0].name]:
        series = f"{workflow_id(study)}-deliver-{place}-{uuid.uuid4().hex[:8]}"
        starter.deliver(session, study, place, series, route.priority)
    return f"delivery to {', '.join(places) or 'nobody, for all of it is there'}"
