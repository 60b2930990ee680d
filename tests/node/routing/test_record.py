"""From rules to what happens to a study: real tables, the real collector, the engine's real queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import actions
from node.collect import Collector
from node.commit import Reports
from node.deliver import Deliverer
from node.engine import QUEUE_PRIORITY, WorkStarter, workflow_id
from node.errors import StudyError
from node.ledger import finish
from node.report import describe_study
from node.routing.decide import WITHOUT_RULES, Route
from node.routing.record import assign, last_decision, route_of, turn_away
from node.routing.rules import Priority
from node.settings import Settings, load_settings
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, RouteRow, Study, now
from node.worker import Worker
from node.workflow import Steps
from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice
from tests.node.collecting import low_dose, quiet_for, receive, study_of, t1

FOLDER = '[[destination]]\nkind = "folder"\nname = "{0}"\npath = "{0}"\n'
RULES = f"""
{FOLDER.format("research")}
[[rule]]
name = "knee"
study_description = "knee"
process = false
reason = "only brains"

[[rule]]
name = "emergency"
ae_title = "^PACS$"
study_description = "brain"
priority = "stat"
model = "weights"
destinations = ["research"]

[[rule]]
name = "everything else"
"""


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    path = make_config(required='["t1", "low_dose"]', optional="[]")
    path.write_text(path.read_text() + RULES)
    return load_settings(path)


def collected(collector: Collector, engine: Engine, tmp_path: Path, *datasets: object) -> Study:
    receive(engine, tmp_path, *datasets)  # type: ignore[arg-type]
    quiet_for(engine, 1e6)
    collector.look()
    return study_of(engine)


def shown(engine: Engine, study: Study) -> dict[str, object]:
    with Session(engine) as session:
        return describe_study(session, session.get_one(Study, study.id))


def queue_priority(starter: WorkStarter, study: Study) -> int:
    return starter._client.list_workflows(workflow_ids=[workflow_id(study)])[0].priority


def test_what_the_first_fitting_rule_says_is_written_down_and_done(
    collector, engine, starter, settings, tmp_path
):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="MR Brain"), *low_dose())
    assert study.state == State.QUEUED
    assert queue_priority(starter, study) == QUEUE_PRIORITY[Priority.STAT]
    with Session(engine) as session:
        route = route_of(session, session.get_one(Study, study.id))
    assert route == Route(
        "emergency", 'ae_title: "PACS" matches "^PACS$"; study_description: "MR Brain" matches "brain"', True, "",
        str(tmp_path / "weights"), ("research",), Priority.STAT,
    )  # fmt: skip
    report = shown(engine, study)
    assert report["route"]["rule"] == "emergency"
    assert report["priority"] == "stat"
    assert [event for event in report["events"] if event["what"] == 'rule "emergency" decides']


def test_another_study_goes_by_the_last_rule(collector, engine, starter, tmp_path):
    study = collected(collector, engine, tmp_path, *t1(), *low_dose())
    assert queue_priority(starter, study) == QUEUE_PRIORITY[Priority.ROUTINE]
    assert shown(engine, study)["route"]["rule"] == "everything else"
    assert shown(engine, study)["route"]["destinations"] is None


def test_a_study_that_a_rule_does_not_want_says_so_and_a_person_can_have_it_processed(
    collector, engine, starter, settings, tmp_path
):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="Knee"), *low_dose())
    assert study.state == State.CANCELLED
    assert study.reason == 'not processed by the rule "knee": only brains'
    assert starter.status(f"study-{study.key}-run-1") is None
    assert shown(engine, study)["route"]["follows"] == "not processed: only brains"
    assert actions.retry(engine, study.key, settings, starter) == "run 1"
    study = study_of(engine)
    assert study.state == State.QUEUED
    assert starter.status(workflow_id(study)) == "ENQUEUED"
    with Session(engine) as session:
        route = route_of(session, session.get_one(Study, study.id))
    assert (route.rule, route.process, route.destinations) == ("knee", True, None)
    assert "has it processed, although" in route.because


def test_what_no_rule_wants_is_not_waited_for_and_not_reported_as_incomplete(collector, engine, tmp_path):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="Knee")[:10])
    assert study.missing
    assert (study.state, study.reason) == (State.CANCELLED, 'not processed by the rule "knee": only brains')


def test_what_nothing_can_change_is_turned_away_at_once(collector, engine, tmp_path):
    receive(engine, tmp_path, *t1(StudyDescription="Knee")[:10])
    collector.look()
    assert study_of(engine).state == State.CANCELLED, "nobody waits an hour for the rest of a knee"


def test_what_a_rule_wants_is_still_reported_as_incomplete(collector, engine, tmp_path):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="MR Brain")[:10])
    assert study.state == State.INCOMPLETE
    assert shown(engine, study)["route"] == {}, "the rules speak once the study is whole"


def test_a_run_goes_on_as_decided_whatever_the_configuration_says_later(collector, engine, settings, tmp_path):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="MR Brain"), *low_dose())
    later = settings.model_copy(update={"rule": ()})  # the node was restarted without the rules
    deliverer = Deliverer(later, engine, Reports(later, engine))
    with Session(engine) as session, session.begin():
        row = session.get_one(Study, study.id)
        made_for(session, row, "pacs", "research")
        row.state = State.DERIVING
    deliveries = Steps(later, engine, Worker(later), deliverer).begin_delivery(workflow_id(study), study.id)
    assert [place for place, _ in deliveries] == ["research"]
    settle(engine, "research")
    finish(later, engine, study.id)
    assert study_of(engine).state == State.DELIVERED, "only what this run is for holds it up"


def test_a_destination_that_is_gone_is_named(collector, engine, settings, tmp_path):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="MR Brain"), *low_dose())
    later = settings.model_copy(update={"rule": (), "destination": settings.destination[:1]})
    with Session(engine) as session, session.begin():
        made_for(session, session.get_one(Study, study.id), "pacs")
    steps = Steps(later, engine, Worker(later), Deliverer(later, engine, Reports(later, engine)))
    with pytest.raises(StudyError, match='rule "emergency" sends it to research'):
        steps.begin_delivery(workflow_id(study), study.id)


def test_the_newest_decision_of_a_run_holds(engine):
    with Session(engine) as session, session.begin():
        study = Study(
            key="k", study_instance_uid="1.2", patient_id="", accession_number="", study_date="",
            state=State.RECEIVING, run=0,
        )  # fmt: skip
        session.add(study)
        session.flush()
        assert route_of(session, study) is WITHOUT_RULES, "what began before there were rules"
        assert last_decision(session, study) is None
        no = Route("no", "so", process=False, reason="not here")
        assert turn_away(session, study, no) == 'not processed by the rule "no": not here'
        assert last_decision(session, study) == no
        assert route_of(session, study) is WITHOUT_RULES, "there is no run that it could say anything of"
        study.run = 1
        assign(session, study, Route("yes", "so", destinations=("a", "b"), priority=Priority.LOW), "node")
        assert route_of(session, study) == Route("yes", "so", destinations=("a", "b"), priority=Priority.LOW)
        assert len(session.scalars(select(RouteRow)).all()) == 2, "the history stays"


def made_for(session: Session, study: Study, *places: str) -> None:
    """A derived series of the study's present run, with an open row for each place."""
    series = DerivedSeriesRow(
        study_id=study.id, series_instance_uid="1.9", kind="enhanced_mr", model_digest="",
        inputs_digest=study.inputs_digest, made=now(),
    )  # fmt: skip
    session.add(series)
    session.flush()
    for place in places:
        session.add(
            Delivery(
                derived_series_id=series.id, destination=place, sop_class_uid="1.2", sop_instance_uid="1.9.1", path="x"
            )
        )


def settle(engine: Engine, place: str) -> None:
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Delivery).where(Delivery.destination == place)):
            row.state, row.settled = "SENT", now()


def test_late_instances_that_a_rule_wants_bring_back_what_was_turned_away(collector, engine, starter, tmp_path):
    turned_away = t1(StudyDescription="Knee")
    study = collected(collector, engine, tmp_path, *turned_away[:10])
    assert study.state == State.CANCELLED
    study = collected(collector, engine, tmp_path, *turned_away[10:])
    assert study.state == State.CANCELLED, "the rule still does not want it"
    corrected = [mr_slice("t1", n, SeriesNumber=1, StudyDescription="MR Brain") for n in range(1, 25)]
    study = collected(collector, engine, tmp_path, *corrected, *low_dose())
    assert study.state == State.QUEUED
    assert [event["what"] for event in shown(engine, study)["events"]][-3:-1] == [
        "CANCELLED → RECEIVING", "RECEIVING → QUEUED",
    ]  # fmt: skip
    assert shown(engine, study)["route"]["rule"] == "emergency"


def test_what_a_person_cancelled_stays_cancelled(collector, engine, starter, tmp_path):
    slices = t1(StudyDescription="MR Brain")
    study = collected(collector, engine, tmp_path, *slices[:10])
    actions.cancel(engine, study.key, starter)
    study = collected(collector, engine, tmp_path, *slices[10:], *low_dose())
    assert study.state == State.CANCELLED


def test_a_retry_keeps_the_decision_and_force_begins_a_run_by_the_rules_of_now(
    collector, engine, starter, settings, tmp_path
):
    study = collected(collector, engine, tmp_path, *t1(StudyDescription="MR Brain"), *low_dose())
    later = settings.model_copy(update={"rule": ()})
    starter.cancel(workflow_id(study))
    for act, run, route in (
        (actions.retry, 1, "emergency"),  # from the step that failed
        (actions.force, 2, ""),
    ):
        with Session(engine) as session, session.begin():
            session.get_one(Study, study.id).state = State.FAILED
        act(engine, study.key, later, starter)
        with Session(engine) as session:
            row = session.get_one(Study, study.id)
            assert (row.state, row.run, route_of(session, row).rule) == (State.QUEUED, run, route)
