"""The engine's real queues, with the real workflows in them: what is urgent overtakes what waits.

Only the numeric steps are left out: they note who had his turn, and derive puts a file where the real one would.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dbos import DBOS
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import engine as durable
from node.collect import enqueue
from node.database import writing
from node.deliver import Deliverer
from node.engine import QUEUE_PRIORITY, WorkStarter, workflow_id
from node.errors import StudyError
from node.routing.decide import Route
from node.routing.rules import Priority
from node.settings import Settings, load_settings
from node.states import State, Trigger, move
from node.tables import Delivery, DerivedSeriesRow, Event, Study
from node.worker import Worker
from node.workflow import Steps, register
from tests.conftest import ConfigMaker
from tests.node.delivering import NO_UID, finding, storing, to_deliver
from tests.waiting import eventually

SHARE = '[[destination]]\nkind = "folder"\nname = "share"\npath = "{0}"\n'


@dataclass(frozen=True)
class Noted(Steps):
    """The steps, without the numbers. The first one waits for ``go``."""

    go: threading.Event = field(default_factory=threading.Event)
    turns: list[int] = field(default_factory=list)
    unfit: set[int] = field(default_factory=set)

    def numeric(self, run: str, study_id: int, on: Trigger, step: str) -> None:
        if step == "convert":
            self.turns.append(study_id)
            self.go.wait(20)
        if study_id in self.unfit and step == "synthesise":
            raise StudyError("unfit")
        if step == "derive":
            self._derive(study_id)
        with writing(self.engine) as session:
            move(session, session.get_one(Study, study_id), on, step)

    def _derive(self, study_id: int) -> None:
        with writing(self.engine) as session:
            study = session.get_one(Study, study_id)
            series = DerivedSeriesRow(
                study_id=study_id, series_instance_uid=f"1.{study_id}", kind="enhanced_mr", model_digest="",
                inputs_digest=study.inputs_digest,
            )  # fmt: skip
            session.add(series)
            session.flush()
            (self.settings.node.data / f"{study_id}.dcm").write_bytes(b"a series")
            session.add(
                Delivery(
                    derived_series_id=series.id, destination="share", sop_class_uid="1.2", path=f"{study_id}.dcm",
                    sop_instance_uid=f"1.{study_id}.1",
                )
            )


@pytest.fixture
def settings(make_config: ConfigMaker, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """With a folder as destination or, on demand, with the shipped configuration's PACS."""
    path = make_config(delivery__first_retry_seconds=0.2, delivery__longest_retry_seconds=0.2)
    if getattr(request, "param", "share") == "share":
        text = path.read_text()
        start, end = text.index("[[destination]]"), text.index("# Rules say")
        path.write_text(text[:start] + SHARE.format(tmp_path / "share") + text[end:])
    return load_settings(path)


@pytest.fixture
def steps(settings: Settings, engine: Engine, deliverer: Deliverer) -> Iterator[Noted]:
    steps = Noted(settings, engine, Worker(settings), deliverer)
    durable.configure(settings, engine)
    register(steps)
    durable.launch(settings)
    yield steps
    steps.go.set()
    DBOS.destroy(workflow_completion_timeout_sec=5)


def queue(engine: Engine, starter: WorkStarter, priority: Priority) -> int:
    """A study that is complete; its row id."""
    with writing(engine) as session:
        number = len(session.scalars(select(Study.id)).all()) + 1
        study = Study(
            key=f"k{number}", study_instance_uid=f"1.2.{number}", patient_id="", accession_number="", study_date="",
            state=State.RECEIVING, run=0,
        )  # fmt: skip
        session.add(study)
        session.flush()
        enqueue(session, study, starter, Route("a rule", "", priority=priority), Trigger.COMPLETE, "complete")
        return study.id


def states(engine: Engine) -> set[str]:
    with Session(engine) as session:
        return set(session.scalars(select(Study.state)))


def priority_in_queue(starter: WorkStarter, identity: str) -> int | None:
    found = starter._client.list_workflows(workflow_ids=[identity])
    return found[0].priority if found else None


def test_stat_overtakes_what_waits_for_processing_and_for_each_destination(
    steps, deliverer, engine, starter, settings, tmp_path
):
    (tmp_path / "share").mkdir()
    first = queue(engine, starter, Priority.ROUTINE)
    eventually(lambda: steps.turns == [first], 20)
    low, routine, stat, high = (
        queue(engine, starter, priority)
        for priority in (Priority.LOW, Priority.ROUTINE, Priority.STAT, Priority.HIGH)
    )
    later = queue(engine, starter, Priority.ROUTINE)
    with deliverer._turns["share"]:  # the destination is busy with the first until all of them wait for it
        steps.go.set()
        eventually(lambda: states(engine) == {State.DELIVERING}, 30)
        assert steps.turns == [first, stat, high, routine, later, low]
        # They came to the destination's queue in that very order; this one comes behind all of them.
        last = queue(engine, starter, Priority.STAT)
        eventually(lambda: steps.turns[-1] == last and states(engine) == {State.DELIVERING}, 30)
    eventually(lambda: states(engine) == {State.DELIVERED}, 30)
    with Session(engine) as session:
        sent = session.execute(
            select(DerivedSeriesRow.study_id).join(DerivedSeriesRow.deliveries).order_by(Delivery.sent)
        ).scalars()
        # The first waited for the destination before the others came, or among them: either is right.
        assert [study for study in sent if study != first] == [stat, last, high, routine, later, low]


def test_the_priority_stays_over_attempts_and_after_a_retry(steps, engine, starter, settings, tmp_path):
    steps.go.set()
    study = queue(engine, starter, Priority.STAT)
    steps.unfit.add(study)
    eventually(lambda: states(engine) == {State.FAILED}, 20)
    with Session(engine) as session:
        run = workflow_id(session.get_one(Study, study))
    eventually(lambda: starter.status(run) == "ERROR", 20)  # the study says so a moment before its workflow ends
    with writing(engine) as session:
        row = session.get_one(Study, study)
        move(session, row, Trigger.RETRIED, "again")
    steps.unfit.clear()
    starter.resume(run)
    stat = QUEUE_PRIORITY[Priority.STAT]
    assert priority_in_queue(starter, run) == stat
    eventually(lambda: priority_in_queue(starter, f"{run}-deliver-share-0-2") == stat, 20)
    (tmp_path / "share").mkdir()  # there was no folder until now
    eventually(lambda: states(engine) == {State.DELIVERED}, 20)


@pytest.mark.parametrize("settings", ["pacs"], indirect=True)
def test_a_destination_that_answers_what_cannot_be_read_is_tried_again_until_it_answers_in_order(
    steps, engine, starter, settings
):
    study, port = to_deliver(settings, engine), settings.destination[0].port

    def attempts() -> int:
        with Session(engine) as session:
            return len(session.scalars(select(Event.id).where(Event.why.contains("a match that cannot be read"))).all())

    with finding(port, NO_UID):
        with writing(engine) as session:
            row = session.get_one(Study, study)
            starter.deliver(session, row, "pacs", f"{workflow_id(row)}-deliver-pacs-0", Priority.ROUTINE)
        eventually(lambda: attempts() >= 2, 30)
        assert states(engine) == {State.DELIVERING}
    with storing(port, 0x0000):
        eventually(lambda: states(engine) == {State.DELIVERED}, 30)
