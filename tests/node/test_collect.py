"""The collector at its door: rows of received instances in, states and queued work out (real tables)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node import actions
from node.collect import Collector
from node.engine import WorkStarter
from node.header.instance import scan
from node.receive import record_instance
from node.settings import Settings, load_settings
from node.states import State, TransitionError
from node.tables import Instance, Study
from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(required='["t1", "low_dose"]', optional='["flair"]'))


@pytest.fixture
def collector(settings: Settings, engine: Engine, starter: WorkStarter) -> Collector:
    return Collector(settings, engine, starter, lambda: open_studies)


open_studies: frozenset[int] = frozenset()


def receive(engine: Engine, tmp_path: Path, *datasets: Dataset) -> None:
    """What the receiver does, without the network."""
    for number, dataset in enumerate(datasets):
        path = tmp_path / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        with Session(engine) as session, session.begin():
            record_instance(session, scan(path), dataset.SOPInstanceUID[-12:] + str(hash(path)), "x", 1, "PACS@there")


def t1(count: int = 24, **elements: object) -> list[Dataset]:
    return [mr_slice("t1", n, SeriesNumber=1, **elements) for n in range(1, count + 1)]


def low_dose(**elements: object) -> list[Dataset]:
    elements = {"AcquisitionTime": "101500", "ContrastBolusAgent": "gadoterate", **elements}
    return [mr_slice("low", n, SeriesNumber=2, **elements) for n in range(1, 25)]


def quiet_for(engine: Engine, seconds: float) -> None:
    with Session(engine) as session, session.begin():
        for study in session.query(Study):
            study.last_received -= timedelta(seconds=seconds)


def study_of(engine: Engine) -> Study:
    with Session(engine) as session:
        study = session.query(Study).one()
        _ = study.series, study.events
        return study


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
    assert starter.status(study) == "ENQUEUED", "the state and the work were committed together"


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


def test_no_study_is_judged_while_an_association_for_it_is_open(collector, engine, settings, tmp_path, monkeypatch):
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, settings.completeness.give_up_seconds)
    monkeypatch.setattr("tests.node.test_collect.open_studies", frozenset({1}))
    collector.look()
    assert study_of(engine).state == State.RECEIVING
    monkeypatch.setattr("tests.node.test_collect.open_studies", frozenset())
    collector.look()
    assert study_of(engine).state == State.QUEUED


def test_two_patients_in_one_study_fail_with_that_reason(collector, engine, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose(PatientID="P2"))
    collector.look()
    study = study_of(engine)
    assert study.state == State.FAILED
    assert "2 different Patient IDs" in study.reason
    assert "Jane" not in study.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PixelData": None}, "Pixel Data"),
        ({"ImagePositionPatient": None, "ImageOrientationPatient": None}, "geometry"),
        ({"Modality": "CT"}, "not an MR study"),
    ],
)
def test_what_can_never_be_processed_fails_with_its_reason(collector, engine, tmp_path, change, reason):
    datasets = [*t1(), *low_dose()]
    for dataset in datasets:
        for keyword, value in change.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
    receive(engine, tmp_path, *datasets)
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
    with Session(engine) as session:
        study = actions.find(session, study_of(engine).key[:6])
        actions.force(session, study, settings, starter)
        session.commit()
    study = study_of(engine)
    assert study.state == State.QUEUED
    assert study.events[-1].who.startswith("person ")
    assert "slice 11" in study.events[-1].why


def test_late_instances_of_a_study_being_worked_on_are_noted_and_retry_is_refused_meanwhile(
    collector, engine, starter, settings, tmp_path
):
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    receive(engine, tmp_path, mr_slice("flair", 1))
    collector.look()
    study = study_of(engine)
    assert study.state == State.QUEUED
    assert study.events[-1].what == "late instances"
    with Session(engine) as session, pytest.raises(TransitionError, match="cancel it first"):
        actions.retry(session, actions.find(session, study.key), settings, starter)


def test_a_cancelled_study_can_be_taken_up_again_with_what_came_since(collector, engine, starter, settings, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    with Session(engine) as session:
        actions.cancel(session, actions.find(session, study_of(engine).key), starter)
        session.commit()
    assert study_of(engine).state == State.CANCELLED
    assert starter.status(study_of(engine)) == "CANCELLED"
    receive(engine, tmp_path, mr_slice("t1", 1, SeriesNumber=1, PatientWeight=70))
    with Session(engine) as session:
        assert actions.retry(session, actions.find(session, study_of(engine).key), settings, starter) == "run 2"
        session.commit()
    assert study_of(engine).state == State.QUEUED
