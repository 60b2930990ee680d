"""Late instances: a new version supersedes the old, nothing is mixed, and what changes nothing disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import actions
from node.associations import Associations
from node.collect import Collector
from node.commit import Reports
from node.database import writing
from node.deliver import Deliverer
from node.engine import WorkStarter, workflow_id
from node.errors import CancelledError
from node.inputs import digest_inputs, of_run
from node.settings import Settings, load_settings
from node.states import WORKING, State, Trigger
from node.tables import Instance, Run, Study
from node.worker import Worker
from node.workflow import Steps
from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice
from tests.node.collecting import finish, flair, low_dose, quiet_for, receive, study_of, t1

WITHOUT_ROLE = [mr_slice("localizer", n, SeriesNumber=9, ImageType=["ORIGINAL", "LOCALIZER"]) for n in (1, 2, 3)]
LATER_T1 = {"PatientWeight": 70}  # other bytes under the same SOP Instance UIDs


@pytest.fixture
def settings(make_config: ConfigMaker, request: pytest.FixtureRequest) -> Settings:
    policy = getattr(request, "param", "process")
    return load_settings(make_config(required='["t1", "low_dose"]', late_instances=f'"{policy}"'))


@pytest.fixture
def look(
    settings: Settings, engine: Engine, starter: WorkStarter, associations: Associations, tmp_path: Path
) -> Callable[..., Study]:
    """Receive, have the sender release its association, let time pass until it has settled, and look."""
    collector = Collector(settings, engine, starter, associations)

    def look(*datasets: Dataset, settled: bool = True) -> Study:
        receive(engine, tmp_path, *datasets)
        finish(associations, engine)
        if settled:
            quiet_for(engine, settings.completeness.quiet_seconds)
        collector.look()
        return study_of(engine)

    return look


@pytest.fixture
def steps(settings: Settings, engine: Engine) -> Steps:
    return Steps(settings, engine, Worker(settings), Deliverer(settings, engine, Reports(settings, engine)))


def put(engine: Engine, state: State) -> None:
    with Session(engine) as session, session.begin():
        session.scalars(select(Study)).one().state = state


def inputs(engine: Engine) -> dict[str, int]:
    """How many instances of each role the study's run works on."""
    with Session(engine) as session:
        return {role: len(rows) for role, rows in of_run(session, session.scalars(select(Study)).one()).items()}


def late_events(study: Study) -> list[str]:
    return [event.why for event in study.events if event.what == "late instances"]


@pytest.mark.parametrize("state", [State.CONVERTING, State.DELIVERING, State.DELIVERED, State.REJECTED])
def test_late_instances_that_change_the_inputs_begin_a_new_run_once_they_have_settled(look, engine, starter, state):
    first = look(*t1(), *low_dose())
    assert (first.state, first.run, inputs(engine)) == (State.QUEUED, 1, {"t1": 24, "low_dose": 24})
    put(engine, state)
    study = look(*flair(), settled=False)
    assert (study.state, study.run) == (State.RECEIVING, 1), "a release was not the end, as one sees"
    assert study.events[-1].what == f"{state} → RECEIVING"
    assert "something new of flair" in study.events[-1].why
    study = look()
    assert (study.state, study.run) == (State.QUEUED, 2)
    assert starter.status(workflow_id(study)) == "ENQUEUED"
    assert inputs(engine) == {"t1": 24, "low_dose": 24, "flair": 24}
    with Session(engine) as session:
        assert [len(run.inputs) for run in session.scalars(select(Run).order_by(Run.number))] == [2, 3]


@pytest.mark.parametrize("then", ["RECEIVING", "QUEUED"])
def test_a_run_that_was_superseded_ends_and_touches_nothing_of_the_next(look, engine, steps, then):
    study = look(*t1(), *low_dose())
    first = workflow_id(study)
    put(engine, State.CONVERTING)
    study = look(*t1(**LATER_T1), settled=then == "QUEUED")
    assert study.state == then
    with pytest.raises(CancelledError, match="superseded"):
        steps.numeric(first, study.id, Trigger.PREPARE, "prepare")
    steps.fail(first, study.id, "the numeric process was ended")
    assert steps.send(first, study.id, "pacs", 1) == ""
    after = study_of(engine)
    assert (after.state, after.reason, len(after.events)) == (study.state, study.reason, len(study.events))


def test_a_run_goes_on_with_what_it_began_with_while_others_arrive(look, engine, starter):
    """Between the arrival and the collector's next look, and for as long as the association stays open."""
    look(*t1(), *low_dose())
    with Session(engine) as session:
        study = session.scalars(select(Study)).one()
        before = {row.path for rows in of_run(session, study).values() for row in rows}
        for row in session.scalars(select(Instance)).all()[:5]:  # what the receiver does to those a version replaced
            row.current = False
        session.flush()
        assert {row.path for rows in of_run(session, study).values() for row in rows} == before


def test_what_is_no_input_is_noted_once_and_disturbs_nothing(look, engine):
    look(*t1(), *low_dose())
    late = iter(mr_slice("localizer", n, SeriesNumber=9, ImageType=["ORIGINAL", "LOCALIZER"]) for n in range(100))
    for state in (*sorted(WORKING), State.DELIVERED, State.REJECTED, State.FAILED, State.CANCELLED):
        put(engine, state)
        for _ in range(2):
            study = look(next(late))
            assert (study.state, study.run, study.unjudged) == (state, 1, False)
        noted = f"while the study was {state}: they change nothing that the result is made of"
        assert late_events(study).count(noted) == 1


def test_a_late_full_dose_is_no_input(look, engine):
    look(*t1(), *low_dose())
    put(engine, State.DELIVERED)
    full = {"AcquisitionTime": "103000", "ContrastBolusAgent": "gadoterate", "ContrastBolusVolume": 15.0}
    study = look(*(mr_slice("full", n, SeriesNumber=4, **full) for n in range(1, 25)))
    assert {series.description: series.role for series in study.series}["full"] == "full_dose"
    assert (study.state, study.run) == (State.DELIVERED, 1)
    with Session(engine) as session:
        made_again = digest_inputs(session.scalars(select(Study)).one())
    assert made_again == study.inputs_digest, "a run made again makes the same series, not a second one"


def test_the_same_bytes_again_cause_nothing(look, engine):
    before = look(*t1(), *low_dose())
    for state in (*sorted(WORKING), State.DELIVERED, State.REJECTED, State.FAILED, State.CANCELLED):
        put(engine, state)
        after = look(*t1(), *low_dose(), settled=False)
        assert (after.state, after.run, after.unjudged) == (state, 1, False)
        assert after.last_received == before.last_received
        assert len(after.events) == len(before.events)


def test_a_change_that_is_taken_back_leads_to_the_inputs_from_before(look, engine):
    digests = []
    for sent in ((*t1(), *low_dose()), t1(**LATER_T1), t1()):
        digests.append(look(*sent).inputs_digest)
        put(engine, State.DELIVERED)
    assert study_of(engine).run == 3
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("settings", ["note"], indirect=True)
@pytest.mark.parametrize("state", [State.DERIVING, State.DELIVERED])
def test_late_instances_that_are_only_to_be_noted(look, engine, settings, starter, state):
    look(*t1(), *low_dose())
    put(engine, state)
    study = look(*flair(), *t1(**LATER_T1))
    assert (study.state, study.run) == (state, 1)
    [noted] = late_events(study)
    assert "something new of flair, t1; `quarterdose studies retry" in noted
    assert inputs(engine) == {"t1": 24, "low_dose": 24}, "the run under way finishes on what it began with"
    if state is State.DELIVERED:
        assert actions.retry(engine, study.key, settings, starter) == "run 2"
        assert inputs(engine) == {"t1": 24, "low_dose": 24, "flair": 24}


def test_what_a_person_cancelled_stays_cancelled(look, engine, starter, settings):
    actions.cancel(engine, look(*t1(), *low_dose()).key, starter)
    study = look(*flair())
    assert (study.state, study.run) == (State.CANCELLED, 1)
    assert "retry" in late_events(study)[0]
    assert actions.retry(engine, study.key, settings, starter) == "run 2"


def test_a_new_version_that_lacks_something_is_incomplete_and_heals(look, engine, settings):
    look(*t1(), *low_dose())
    put(engine, State.DELIVERED)
    again = [mr_slice("t1 again", n, SeriesNumber=5, AcquisitionTime="101000") for n in range(1, 25)]
    study = look(*again[:10], *again[11:])
    assert study.state == State.RECEIVING
    assert "slice 11" in study.missing[0]
    study = look(again[10])
    assert (study.state, study.run, study.missing) == (State.QUEUED, 2, [])


def test_two_patients_stop_the_work_and_the_corrected_series_heals_it(look, engine):
    look(*t1(), *low_dose())
    put(engine, State.CONVERTING)
    study = look(*(mr_slice("localizer", n, SeriesNumber=9, PatientID="P2") for n in (1, 2)))
    assert study.state == State.FAILED, "though what is mixed up has no role"
    assert [event.what for event in study.events[-2:]] == ["CONVERTING → RECEIVING", "RECEIVING → FAILED"]
    assert "2 different Patient IDs" in study.reason
    study = look(*(mr_slice("localizer", n, SeriesNumber=9) for n in (1, 2)))
    assert (study.state, study.held, study.run) == (State.QUEUED, [], 2)


def test_late_instances_that_cannot_be_judged_are_noted_and_the_run_goes_on(look, engine):
    look(*t1(), *low_dose())
    with Session(engine) as session, session.begin():
        session.scalars(select(Instance)).all()[0].header = {"written": "by another version"}
    study = look(*WITHOUT_ROLE)
    assert (study.state, study.unjudged) == (State.QUEUED, False)
    assert "cannot be judged" in late_events(study)[0]


def test_a_person_may_retry_with_the_same_inputs_after_late_instances_without_a_role(look, engine, starter, settings):
    study = look(*t1(), *low_dose())
    actions.cancel(engine, study.key, starter)
    look(*WITHOUT_ROLE)
    assert actions.retry(engine, study.key, settings, starter) == "from the step that failed"
    with writing(engine) as session:
        assert session.scalars(select(Study)).one().run == 1
