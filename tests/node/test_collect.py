"""The collector at its door: rows of received instances in, states and queued work out (real tables)."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from node import actions
from node.engine import workflow_id
from node.settings import Settings, load_settings
from node.states import State, TransitionError
from node.tables import Instance, Study
from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice
from tests.node.collecting import Association, finish, flair, low_dose, quiet_for, receive, study_of, t1


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(required='["t1", "low_dose"]', optional='["flair"]'))


def test_complete_but_for_an_optional_role_waits_and_then_goes(collector, engine, starter, settings, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    collector.look()
    study = study_of(engine)
    assert study.state == State.RECEIVING
    assert study.missing == []
    assert study.missing_optional == ["flair: no T2-FLAIR series"]
    assert {series.description: series.role for series in study.series} == {"t1": "t1", "low": "low_dose"}
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    study = study_of(engine)
    assert study.state == State.QUEUED
    assert starter.status(workflow_id(study)) == "ENQUEUED", "the state and the work were committed together"


def test_a_missing_slice_is_named_and_heals(collector, engine, settings, tmp_path):
    slices = t1()
    receive(engine, tmp_path, *slices[:10], *slices[11:], *low_dose())
    collector.look()
    assert any("slice 11" in line for line in study_of(engine).missing)
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    assert study_of(engine).state == State.INCOMPLETE
    assert "slice 11" in study_of(engine).reason
    receive(engine, tmp_path, slices[10])
    assert study_of(engine).state == State.RECEIVING
    collector.look()
    assert study_of(engine).missing == []


def test_no_study_is_judged_while_an_association_for_it_is_open(collector, associations, engine, settings, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, settings.completeness.give_up_seconds)
    association = Association()
    associations.opened(association)
    associations.brings(association, study_of(engine).key)
    collector.look()
    assert study_of(engine).state == State.RECEIVING
    associations.closed(association)
    collector.look()
    assert study_of(engine).state == State.QUEUED


@pytest.mark.parametrize("released", [True, False])
def test_only_a_release_spares_a_complete_study_the_wait_for_quiet(
    collector, associations, engine, settings, tmp_path, released
):
    receive(engine, tmp_path, *t1(), *low_dose(), *flair())
    if released:
        finish(associations, engine)
    collector.look()
    assert study_of(engine).state == (State.QUEUED if released else State.RECEIVING)
    quiet_for(engine, settings.completeness.quiet_seconds)
    collector.look()
    assert study_of(engine).state == State.QUEUED


def test_an_instance_that_arrives_between_two_looks_is_always_judged(collector, engine, tmp_path):
    """A receiver that read the study before the collector wrote it must not lose its mark."""
    slices = t1()
    receive(engine, tmp_path, *slices[:-1], *low_dose())
    with Session(engine) as slow:  # has read the study, and writes only after the collector
        before = slow.query(Study).one()
        assert before.unjudged
        collector.look()
        slow.rollback()
    receive(engine, tmp_path, slices[-1])
    collector.look()
    assert study_of(engine).missing == []


def test_two_patients_in_one_study_fail_with_that_reason_and_cannot_be_forced(
    collector, associations, engine, starter, settings, tmp_path
):
    receive(engine, tmp_path, *t1(), *low_dose(PatientID="P2"))
    finish(associations, engine)
    collector.look()
    study = study_of(engine)
    assert study.state == State.FAILED
    assert "2 different Patient IDs" in study.reason
    assert "Jane" not in study.reason
    for action in (actions.retry, actions.force):
        with pytest.raises(TransitionError, match="2 different Patient IDs"):
            action(engine, study.key, settings, starter)
    assert study_of(engine).state == State.FAILED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PixelData": None}, "Pixel Data"),
        ({"ImagePositionPatient": None, "ImageOrientationPatient": None}, "geometry"),
        ({"Modality": "CT"}, "not an MR study"),
    ],
)
def test_what_can_never_be_processed_fails_with_its_reason(
    collector, associations, engine, tmp_path, change, reason
):
    datasets = [*t1(), *low_dose()]
    for dataset in datasets:
        for keyword, value in change.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
    receive(engine, tmp_path, *datasets)
    finish(associations, engine)
    collector.look()
    assert study_of(engine).state == State.FAILED
    assert reason in study_of(engine).reason


def test_a_study_that_cannot_be_judged_fails_and_the_others_go_on(collector, engine, tmp_path):
    receive(engine, tmp_path, mr_slice("t1", 1, study="2.25.1"))
    with Session(engine) as session, session.begin():
        session.query(Instance).one().header = {"written": "by another version"}
    receive(engine, tmp_path, mr_slice("t1", 1, study="2.25.2"))
    collector.look()
    with Session(engine) as session:
        broken, sound = session.query(Study).order_by(Study.id)
        assert (broken.state, sound.state) == (State.FAILED, State.RECEIVING)
        assert "cannot be judged" in broken.reason
        assert sound.missing


def test_force_processes_an_incomplete_study_and_records_who_and_what_lacked(
    collector, engine, starter, settings, tmp_path
):
    slices = t1()
    receive(engine, tmp_path, *slices[:10], *slices[11:], *low_dose())
    collector.look()
    assert actions.force(engine, study_of(engine).key[:6], settings, starter) == "run 1"
    study = study_of(engine)
    assert study.state == State.QUEUED
    assert study.events[-1].who.startswith("person ")
    assert "slice 11" in study.events[-1].why
    with pytest.raises(TransitionError, match="being worked on"):
        actions.force(engine, study.key, settings, starter)
    collector.look()
    assert study_of(engine).events[-1].what != "late instances", "nothing came since"


def test_a_cancelled_study_can_be_taken_up_again_with_what_came_since(collector, engine, starter, settings, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    actions.cancel(engine, study_of(engine).key, starter)
    assert study_of(engine).state == State.CANCELLED
    assert starter.status(workflow_id(study_of(engine))) == "CANCELLED"
    assert actions.retry(engine, study_of(engine).key, settings, starter) == "from the step that failed"
    assert starter.status(workflow_id(study_of(engine))) == "ENQUEUED"
    actions.cancel(engine, study_of(engine).key, starter)
    receive(engine, tmp_path, mr_slice("t1", 1, SeriesNumber=1, PatientWeight=70))
    assert actions.retry(engine, study_of(engine).key, settings, starter) == "run 2"
    assert study_of(engine).state == State.QUEUED
