"""Modality Performed Procedure Steps: told to the listener by a real SCU, and heard by the collector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityPerformedProcedureStep
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from node.collect import Collector
from node.mpps import COMPLETED, DISCONTINUED, IN_PROGRESS
from node.performed import is_everything_here, performed
from node.receive import Receiver
from node.settings import Settings, load_settings
from node.states import State
from node.tables import ProcedureStep
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.node.collecting import finish, low_dose, quiet_for, receive, study_of, t1

STEP = generate_uid(entropy_srcs=["a step"])


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(required='["t1", "low_dose"]', optional='["flair"]'))


@pytest.fixture
def modality(settings: Settings, receiver: Receiver) -> Iterator[Modality]:
    ae = AE("PACS")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", settings.receiver.port, ae_title=settings.node.ae_title)
    assert association.is_established
    yield Modality(association)
    association.release()


class Modality:
    """The SCU of a scanner."""

    def __init__(self, association: Association) -> None:
        self._association = association

    def begins(self, *studies: str, uid: str = STEP, status: str = IN_PROGRESS) -> Dataset:
        step = Dataset()
        step.ScheduledStepAttributesSequence = [_study(one) for one in studies or (STUDY,)]
        step.PerformedProcedureStepStatus, step.PerformedStationAETitle = status, "MR1"
        step.PerformedSeriesSequence = []
        return self._association.send_n_create(step, ModalityPerformedProcedureStep, uid)[0]

    def says(self, status: str, *made: Sequence[Dataset], uid: str = STEP, reason: str = "") -> Dataset:
        step = Dataset()
        step.PerformedProcedureStepStatus = status
        step.PerformedSeriesSequence = [_series(series) for series in made]
        if reason:
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "110513", "DCM", reason
            step.PerformedProcedureStepDiscontinuationReasonCodeSequence = [code]
        return self._association.send_n_set(step, ModalityPerformedProcedureStep, uid)[0]


def _study(uid: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = uid
    return item


def _series(instances: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = instances[0].SeriesInstanceUID
    item.ReferencedImageSequence = []
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        item.ReferencedImageSequence.append(reference)
    return item


def steps(engine: Engine) -> list[ProcedureStep]:
    with Session(engine) as session:
        return list(session.scalars(select(ProcedureStep).order_by(ProcedureStep.id)))


def test_what_a_modality_says_is_kept(modality, engine):
    assert modality.begins().Status == 0x0000
    [step] = steps(engine)
    assert (step.study_instance_uid, step.status, step.station, step.performed) == (STUDY, IN_PROGRESS, "MR1", {})
    assert step.sender == "PACS@127.0.0.1"
    series = t1(3)
    assert modality.says(IN_PROGRESS, series[:1]).Status == 0x0000
    assert modality.says(COMPLETED, series).Status == 0x0000, "the whole of it each time"
    [step] = steps(engine)
    assert step.status == COMPLETED
    assert step.performed == {
        series[0].SeriesInstanceUID: {one.SOPInstanceUID: one.SOPClassUID for one in series}
    }


def test_a_step_of_two_studies_belongs_to_both(modality, engine):
    modality.begins(STUDY, "1.2.3")
    modality.says(DISCONTINUED, t1(2), reason="Doctor cancelled procedure")
    assert [(step.study_instance_uid, step.status, step.reason) for step in steps(engine)] == [
        (STUDY, DISCONTINUED, "Doctor cancelled procedure"), ("1.2.3", DISCONTINUED, "Doctor cancelled procedure"),
    ]  # fmt: skip


def test_requests_that_cannot_be_followed_are_answered_in_the_standards_words(modality, engine):
    assert modality.says(COMPLETED, t1(1)).Status == 0x0112, "no such object instance"
    assert modality.begins(status=COMPLETED).Status == 0x0106, "a step begins in progress"
    assert modality.begins("").Status == 0x0120, "of no study"
    assert modality.begins().Status == 0x0000
    assert modality.begins().Status == 0x0111, "duplicate"
    assert modality.says("WHATEVER", t1(1)).Status == 0x0106
    assert modality.says(COMPLETED, t1(1)).Status == 0x0000
    late = modality.says(COMPLETED, t1(2))
    assert (late.Status, late.ErrorID) == (0x0110, 0xA710), "it has ended"
    [step] = steps(engine)
    assert len(step.performed[t1(1)[0].SeriesInstanceUID]) == 1


def test_success_is_only_what_is_written(modality, engine):
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE procedure_steps"))
    assert modality.begins().Status == 0x0213, "resource limitation: the modality asks again"


def test_two_steps_count_together_and_only_what_this_node_takes(modality, engine, settings, tmp_path):
    other = mr_slice("SR", 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    receive(engine, tmp_path, *t1(2), *low_dose()[:5])
    modality.begins()
    modality.begins(uid="1.2.3.4")
    modality.says(COMPLETED, t1(2), [other])
    with Session(engine) as session:
        study = study_of(engine)
        assert not is_everything_here(session, study, performed(session, study, settings)), "the other has not ended"
    modality.says(DISCONTINUED, low_dose()[:5], uid="1.2.3.4")
    with Session(engine) as session:
        told = performed(session, study, settings)
        assert is_everything_here(session, study, told)
    assert sorted(len(instances) for instances in told.made.values()) == [0, 2, 5]


# What the collector makes of it


def test_what_was_made_and_has_not_arrived_is_waited_for(collector, associations, modality, engine, tmp_path):
    """Slices at the end of a series that does not say how many it has: nothing else could tell of them."""
    without_count = {"ImagesInAcquisition": None}
    series = t1(26, **without_count)
    receive(engine, tmp_path, *series[:24], *low_dose())
    modality.begins()
    modality.says(COMPLETED, series, low_dose())
    finish(associations, engine)
    quiet_for(engine, 60)
    collector.look()
    study = study_of(engine)
    assert study.state == State.RECEIVING
    assert study.missing == [
        "t1 (series 1): 2 of 26 instances that the modality says it has made have not arrived (MPPS)"
    ]
    receive(engine, tmp_path, *series[24:])
    collector.look()
    assert study_of(engine).state == State.QUEUED, "everything is there: neither quiet nor the FLAIR is waited for"


def test_nothing_more_is_waited_for_once_all_is_there(collector, modality, engine, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    modality.begins()
    collector.look()
    assert study_of(engine).state == State.RECEIVING, "no association has been released, and nothing is quiet"
    modality.says(DISCONTINUED, t1(), low_dose(), reason="Patient refused to continue procedure")
    collector.look()
    study = study_of(engine)
    assert study.state == State.QUEUED
    told = [(event.what, event.why) for event in study.events if event.what.startswith("procedure step")]
    assert told == [
        ("procedure step IN PROGRESS", "0 instances of 0 series"),
        ("procedure step DISCONTINUED", "48 instances of 2 series; Patient refused to continue procedure"),
    ]


def test_one_look_reads_the_steps_once(collector, modality, engine, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    modality.begins()
    modality.says(COMPLETED, t1(), low_dose())
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _1, _2, statement, *_: asked.append(statement))
    collector.look()
    assert study_of(engine).state == State.QUEUED
    assert sum("FROM procedure_steps" in statement for statement in asked) == 1


def test_a_step_that_made_nothing_ends_no_waiting(collector, modality, engine, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    modality.begins()
    modality.says(DISCONTINUED)
    collector.look()
    assert study_of(engine).state == State.RECEIVING


def test_a_run_that_lacked_what_was_made_is_taken_up_again(collector, associations, modality, engine, tmp_path):
    receive(engine, tmp_path, *t1(), *low_dose())
    finish(associations, engine)
    quiet_for(engine, 4000)  # no FLAIR is waited for any more, and nothing else either
    collector.look()
    assert study_of(engine).state == State.QUEUED
    modality.begins()
    modality.says(COMPLETED, t1(25), low_dose())
    collector.look()
    study = study_of(engine)
    assert (study.state, study.missing) == (State.INCOMPLETE, [study.reason])
    assert "1 of 25 instances" in study.reason


def test_who_does_not_want_to_hear_it_need_not(make_config, starter, associations, modality, engine, tmp_path):
    settings = load_settings(make_config(required='["t1", "low_dose"]', procedure_steps="false"))
    receive(engine, tmp_path, *t1(), *low_dose())
    modality.begins()
    modality.says(COMPLETED, t1(26), low_dose())
    finish(associations, engine)
    Collector(settings, engine, starter, associations).look()
    assert study_of(engine).state == State.QUEUED
