"""The table of states: every pair of states is walked."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.states import TRANSITIONS, State, TransitionError, move
from node.tables import Event, Study


def study_in(state: State) -> Study:
    return Study(
        key="k", study_instance_uid="1.2", patient_id="", accession_number="", study_date="", state=state, reason=""
    )


@pytest.mark.parametrize(("here", "there"), list(product(State, State)))
def test_every_move_is_in_the_table_or_refused(engine, here, there):
    with Session(engine) as session:
        study = study_in(here)
        session.add(study)
        session.flush()
        if here is there:
            move(session, study, there, "again")
            assert session.scalars(select(Event)).all() == [], "a replayed step writes no second event"
        elif there in TRANSITIONS[here]:
            move(session, study, there, "because", "somebody")
            session.flush()
            event = session.scalars(select(Event)).one()
            assert (event.who, event.what, event.why) == ("somebody", f"{here} → {there}", "because")
            assert study.state == there
        else:
            with pytest.raises(TransitionError, match=f"is {here}; it cannot become {there}"):
                move(session, study, there, "no")
            assert study.state == here


def test_every_state_can_be_reached_and_left():
    reached = {there for targets in TRANSITIONS.values() for there in targets} | {State.RECEIVING}
    assert reached == set(State)
    assert all(TRANSITIONS[state] for state in State)
