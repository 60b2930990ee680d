"""A source or a destination that leaves the configuration while something waits for it: nothing waits for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import writing
from node.engine import WorkStarter
from node.ledger import CONFIRMED, SENT
from node.removed import close_removed
from node.retrieve import FAILED, QUEUED, request
from node.settings import Settings
from node.states import State, Trigger, move
from node.tables import Delivery, Event, Pull, Study, now
from tests.mr_slices import STUDY
from tests.node.delivering import state, to_deliver


def ask(engine: Engine, source: str) -> int:
    with writing(engine) as session:
        return request(session, WorkStarter(engine), STUDY, source, "person tester", "asked for").id


def pull(engine: Engine, number: int) -> Pull:
    with Session(engine) as session:
        return session.get_one(Pull, number)


def test_only_the_pulls_of_sources_that_are_gone_end_and_say_what_to_do(settings, engine):
    here, gone = ask(engine, "pacs"), ask(engine, "old")
    close_removed(settings, engine)
    close_removed(settings, engine)
    assert pull(engine, here).state == QUEUED
    assert pull(engine, gone).state == FAILED
    assert "no [[source]] old; put it into the configuration and restart" in pull(engine, gone).reason
    with Session(engine) as session:
        [told] = session.scalars(select(Event)).all()
    assert (told.who, told.what, told.why) == ("person tester", "pull from old: FAILED", pull(engine, gone).reason)


def without(settings: Settings, name: str) -> Settings:
    """Its place is taken by one of another name."""
    return settings.model_copy(
        update={
            "destination": tuple(
                one.model_copy(update={"name": "new"}) if one.name == name else one for one in settings.destination
            )
        }
    )


def test_a_result_that_is_nowhere_is_not_called_delivered(settings, engine, deliverer, archive):
    study = to_deliver(settings, engine)
    close_removed(without(settings, "pacs"), engine)
    assert state(engine) == State.FAILED
    with Session(engine) as session:
        why = session.get_one(Study, study).reason
    assert "pacs is gone; put it back and `quarterdose studies retry k`" in why
    with writing(engine) as session:  # it is put back, and a person retries
        row = session.get_one(Study, study)
        move(session, row, Trigger.RETRIED, "")
        move(session, row, Trigger.DELIVER, "")
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert state(engine) == State.DELIVERED


@pytest.mark.parametrize("arrived_elsewhere", [True, False])
def test_what_has_arrived_elsewhere_is_delivered_and_what_is_open_there_is_waited_for(
    settings, engine, arrived_elsewhere
):
    to_deliver(settings, engine)
    with Session(engine) as session, session.begin():
        first = session.scalars(select(Delivery).order_by(Delivery.id)).first()
        first.destination = "new"
        if arrived_elsewhere:
            first.state, first.settled = SENT, now()
        else:
            first.state = CONFIRMED
    close_removed(without(settings, "pacs"), engine)
    with Session(engine) as session:
        study = session.scalars(select(Study)).one()
    assert study.state == (State.DELIVERED if arrived_elsewhere else State.DELIVERING)
    if arrived_elsewhere:
        assert "left out, for neither the configuration nor its rule names it any more: pacs" in study.reason
