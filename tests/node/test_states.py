"""The table of states: every state meets everything that can happen; the document is what the table makes."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.states import COLLECTING, TRANSITIONS, WORKING, State, Transition, TransitionError, Trigger, move
from node.tables import Event, Study
from tests.conftest import ROOT

TABLE = {(one.here, one.on): one for one in TRANSITIONS}
LEADS_TO = {one.on: one.there for one in TRANSITIONS}


def study_in(session: Session, state: State, number: int) -> Study:
    study = Study(
        key=f"k{number}", study_instance_uid=f"1.2.{number}", patient_id="", accession_number="", study_date="",
        state=state, reason="as it was", doing="something", progress=0.5,
    )  # fmt: skip
    session.add(study)
    session.flush()
    return study


def test_every_move_is_in_the_table_or_refused(engine: Engine) -> None:
    walked, refused = set(), 0
    with Session(engine) as session:
        for number, (here, on) in enumerate(product(State, Trigger)):
            study = study_in(session, here, number)
            if here is LEADS_TO[on]:
                move(session, study, on, "again")
                assert (study.state, study.reason) == (here, "as it was"), "a replayed step changes nothing"
                assert events(session, study) == []
            elif (here, on) in TABLE:
                move(session, study, on, "because", "somebody")
                there = TABLE[here, on].there
                walked.add((here, on))
                assert (study.state, study.reason, study.doing, study.progress) == (there, "because", "", 0.0)
                assert events(session, study) == [("somebody", f"{here} → {there}", "because")]
            else:
                refused += 1
                with pytest.raises(TransitionError, match=f"is {here}; it cannot become {LEADS_TO[on]}"):
                    move(session, study, on, "no")
                assert (study.state, study.reason) == (here, "as it was")
                assert events(session, study) == []
    assert walked == set(TABLE)
    assert refused > len(TABLE), "most of what could be is refused"


def events(session: Session, study: Study) -> list[tuple[str, str, str]]:
    session.flush()
    rows = session.scalars(select(Event).where(Event.study_id == study.id))
    return [(row.who, row.what, row.why) for row in rows]


def test_what_happens_leads_to_one_state_and_never_to_where_it_comes_from() -> None:
    assert len(TABLE) == len(TRANSITIONS), "no state and trigger twice"
    assert set(LEADS_TO) == set(Trigger)
    for one in TRANSITIONS:
        assert one.there is LEADS_TO[one.on]
        assert one.here is not one.there
        assert one.means


def test_every_state_can_be_reached_left_and_made_well_again() -> None:
    for begin in State:
        reached = {begin}
        while more := {one.there for one in TRANSITIONS if one.here in reached} - reached:
            reached |= more
        assert reached == set(State), f"from {begin}"
    assert not COLLECTING & WORKING


def test_the_document_is_what_the_table_makes() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "node.states"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    committed = (ROOT / "docs/states.md").read_text(encoding="utf-8")
    assert made.stdout == committed, "python -m node.states > docs/states.md"
    for one in TRANSITIONS:
        assert f"| {one.here} | {one.on} | {one.there} |" in committed
        assert any(is_arrow(line, one) for line in committed.splitlines()), f"{one} is not drawn"


def is_arrow(line: str, one: Transition) -> bool:
    """Whether a line of the diagram draws the transition, from its state or from the box that the state is in."""
    begin, _, rest = line.strip().partition(" --> ")
    there, _, reasons = rest.partition(": ")
    boxes = {"Collecting": COLLECTING, "Working": WORKING}
    return there == one.there and one.on in reasons.split(", ") and (
        begin == one.here or one.here in boxes.get(begin, ())
    )
