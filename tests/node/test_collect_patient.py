"""Whose study it is: a name that was corrected and a patient that was merged are seen, and nothing is mixed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import actions
from node.associations import Associations
from node.collect import Collector
from node.engine import WorkStarter
from node.header.instance import scan
from node.inputs import of_run
from node.settings import Settings, load_settings
from node.states import State
from node.tables import Study
from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice
from tests.node.collecting import finish, low_dose, quiet_for, receive, study_of, t1

CORRECTED = {"PatientName": "Roe^Jane"}
MERGED = {"PatientID": "P2", "PatientName": "Roe^Jane"}


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(required='["t1", "low_dose"]'))


@pytest.fixture
def look(settings: Settings, engine: Engine, starter: WorkStarter, tmp_path: Path) -> Callable[..., Study]:
    """Receive, have the sender release its association, let time pass until it has settled, and look."""
    associations = Associations()
    collector = Collector(settings, engine, starter, associations)

    def look(*datasets: Dataset) -> Study:
        receive(engine, tmp_path, *datasets)
        finish(associations, engine)
        quiet_for(engine, settings.completeness.quiet_seconds)
        collector.look()
        return study_of(engine)

    return look


def events(study: Study, what: str) -> list[str]:
    return [event.why for event in study.events if event.what == what]


def test_a_study_with_two_names_waits_for_the_rest_of_the_correction(look, engine):
    study = look(*t1(), *low_dose()[:23], *(low_dose(**CORRECTED)[23:]))
    assert study.state == State.RECEIVING
    [line] = study.missing
    assert line.startswith("2 different patient names in one study, that of series 2 is the rarer")
    assert events(study, "patient differs") == [line]
    assert "Roe" not in line and "Doe" not in line, "a reason travels into logs and mails"
    study = look(*t1(**CORRECTED), *low_dose(**CORRECTED))
    assert (study.state, study.missing) == (State.QUEUED, [])
    with Session(engine) as session:
        inputs = of_run(session, session.scalars(select(Study)).one())
        assert len({row.header["patient_name_digest"] for rows in inputs.values() for row in rows}) == 1


def test_two_names_that_stay_are_for_a_person_to_decide(look, engine, settings, starter):
    look(*t1(), *low_dose(**CORRECTED))
    quiet_for(engine, settings.completeness.give_up_seconds)
    study = look()
    assert study.state == State.INCOMPLETE
    assert "different patient names" in study.reason
    assert actions.force(engine, study.key, settings, starter) == "run 1"
    assert "different patient names" in study_of(engine).events[-1].why, "who forces it is told what it lacks"


@pytest.mark.parametrize("state", [State.SYNTHESISING, State.DELIVERED])
def test_a_late_series_under_another_name_stops_what_would_be_mixed_up(look, engine, state):
    look(*t1(), *low_dose())
    with Session(engine) as session, session.begin():
        session.scalars(select(Study)).one().state = state
    study = look(*(mr_slice("localizer", n, SeriesNumber=9, **CORRECTED) for n in (1, 2)))
    assert (study.state, study.run) == (State.RECEIVING, 1)
    assert "different patient names" in study.events[-1].why
    assert events(study, "patient differs")


def test_a_merged_patient_is_held_until_all_of_the_study_is_his(look, engine):
    look(*t1(), *low_dose())
    with Session(engine) as session, session.begin():
        session.scalars(select(Study)).one().state = State.DELIVERED
    study = look(*t1(**MERGED))
    assert study.state == State.FAILED
    assert "2 different Patient IDs in one study: 'P1', 'P2'" in study.reason
    assert len(events(study, "patient differs")) == 2, "another ID, and another name"
    assert study.patient_id == "P1"
    study = look(*low_dose(**MERGED))
    assert (study.state, study.run, study.held, study.missing) == (State.QUEUED, 2, [], [])
    assert events(study, "patient changed") == ["every instance has Patient ID 'P2' now, no longer 'P1'"]
    assert study.patient_id == "P2"


def digest(name: str | None) -> str:
    dataset, target = mr_slice("t1", 1, SpecificCharacterSet="ISO_IR 192"), BytesIO()
    if name is None:
        del dataset.PatientName
    else:
        dataset.PatientName = name
    dataset.save_as(target, enforce_file_format=True)
    target.seek(0)
    return scan(target).patient_name_digest


@pytest.mark.parametrize(
    "same",
    [
        ("Doe^Jane", "DOE^JANE", "Doe^Jane^^Dr.", "Doe^Jane^Mary", "DOE JANE", "Doe ^ Jane=ドウ^ジェーン", "D'oe^Jane"),
        ("Müller^Zoë", "MUELLER^ZOE", "Muller^Zoe", "Mu\u0308ller^Zoe\u0308"),
        ("Weiß^Søren", "WEISS^SOREN", "Weiss^Soeren"),
        ("", None, "=山田^太郎", "^^^", "?"),
    ],
)
def test_the_same_name_as_different_machines_write_it(same):
    assert len({digest(name) for name in same}) == 1
    assert (digest(same[0]) == "") == (same[0] == "")


def test_another_name_is_another_and_none_is_told():
    names = ("Doe^Jane", "Doe^John", "Roe^Jane", "Jane^Doe", "")
    assert len({digest(name) for name in names}) == len(names)
    assert not any("jane" in digest(name) for name in names)


def test_a_missing_name_contradicts_nobody(look):
    assert look(*t1(PatientName=""), *low_dose()).state == State.QUEUED
