"""What is kept of a verdict, and how a person overrules it: on the real tables and the real engine's client."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node import actions
from node.commit import Reports
from node.deliver import Deliverer
from node.engine import WorkStarter
from node.inputs import digest_inputs
from node.quality import records
from node.quality.rules import ALL_MEASURES, QualityRules
from node.quality.verdict import Assessment, assess
from node.report import describe_study
from node.settings import Settings
from node.states import State, TransitionError
from node.tables import Study
from node.worker import Worker
from node.workflow import Steps
from preprocessing.quality.measure import Measure
from preprocessing.volume import Role

RULES = QualityRules.model_validate(
    {"limits": {name: {} for name in ALL_MEASURES} | {"coverage": {"warn_below": 99.0, "reject_below": 95.0}}}
)


def of_coverage(share: float) -> Assessment:
    return assess([Measure("coverage", share, Role.T1), Measure("ghosting", float("nan"), Role.T1, "masked")], RULES)


@pytest.fixture
def study(engine: Engine) -> int:
    """A study in CHECKING; its row id."""
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid="1.2", patient_id="", accession_number="", study_date="", run=1,
            state=State.CHECKING, reason="",
        )  # fmt: skip
        row.inputs_digest = digest_inputs(row)
        session.add(row)
        session.flush()
        return row.id


def checked(engine: Engine, study: int, share: float) -> None:
    with Session(engine) as session, session.begin():
        records.record(session, session.get_one(Study, study), of_coverage(share))


@pytest.fixture
def steps(settings: Settings, engine: Engine) -> Steps:
    return Steps(settings, engine, Worker(settings), Deliverer(settings, engine, Reports(settings, engine)))


@pytest.mark.parametrize(
    ("share", "rejected", "said"),
    [(100.0, False, ""), (97.0, False, "accepted the inputs with warnings"), (80.0, True, "REJECTED the inputs")],
)
def test_a_verdict_is_kept_and_told_in_ascii(engine: Engine, study: int, share: float, rejected: bool, said: str):
    checked(engine, study, share)
    with Session(engine) as session:
        row = records.latest(session, session.get_one(Study, study))
        assert row is not None
        assert records.is_rejected(row) == rejected
        row.accepted_by = "person x" if rejected else ""
        row.accepted_because = "nécessaire \\ ²"
        line = records.headline(row)
        assert said in line and line.isascii() and "\\" not in line
        assert describe_study(session, row_study := session.get_one(Study, study))["quality"]["verdict"] == row.verdict
        assert row_study.key == "k"


def test_a_rejected_study_is_rejected_and_one_that_failed_in_the_check_has_failed(
    engine: Engine, study: int, steps: Steps
):
    steps.fail("study-k-run-1", study, "no memory")
    with Session(engine) as session, session.begin():
        row = session.get_one(Study, study)
        assert row.state == State.FAILED
        row.state = State.CHECKING
    checked(engine, study, 80.0)
    steps.fail("study-k-run-1", study, "quality control rejected it: coverage")
    with Session(engine) as session:
        assert session.get_one(Study, study).state == State.REJECTED


def test_checking_again_keeps_what_a_person_decided(engine: Engine, study: int):
    checked(engine, study, 80.0)
    with Session(engine) as session, session.begin():
        row = records.latest(session, session.get_one(Study, study))
        assert row is not None
        row.accepted_by, row.accepted_because = "person x", "it is enough"
    checked(engine, study, 70.0)
    with Session(engine) as session:
        row = records.latest(session, session.get_one(Study, study))
        assert row is not None
        assert not records.is_rejected(row)
        assert row.measures[0]["value"] == 70.0
        session.get_one(Study, study).inputs_digest = "other instances"
        assert records.latest(session, session.get_one(Study, study)) is None, "a decision is about what was there"


@pytest.mark.parametrize(
    ("state", "because", "said"),
    [
        (State.REJECTED, "  ", "say why"),
        (State.FAILED, "fine", "is FAILED, not REJECTED"),
        (State.REJECTED, "fine", "retry it first"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_the_reason(
    engine: Engine, study: int, starter: WorkStarter, state: State, because: str, said: str
):
    with Session(engine) as session, session.begin():
        session.get_one(Study, study).state = state
    with pytest.raises(TransitionError, match=said):
        actions.accept(engine, "k", because, starter)
    with Session(engine) as session:
        assert session.get_one(Study, study).state == state
