"""What the product does with a complete study: this list of steps, and nothing else.

convert → prepare → check → synthesise → derive, then one delivery per destination; last, models that are only tried.
The engine remembers each finished step; after ``kill -9`` a study continues with the step that was interrupted (shared
engine notes; DESIGN, Decisions).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, StepOptions
from dbos import error as dbos_error
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import writing
from node.deliver import GIVEN_UP, Deliverer
from node.engine import QUEUE_PRIORITY, deliveries_to, workflow_id
from node.errors import CancelledError, StudyError
from node.models.standing import Standing
from node.patience import OutOfResourcesError, patiently
from node.quality import records
from node.routing.record import route_of
from node.routing.rules import Priority
from node.settings import Settings
from node.states import WORKING, State, Trigger, move
from node.tables import Event, ModelRow, Study
from node.worker import StepCrashedError, Worker, WorkerDiedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """What the steps work with: configuration, database, the numeric process and the deliverer."""

    settings: Settings
    engine: Engine
    worker: Worker
    deliverer: Deliverer

    def numeric(self, run: str, study_id: int, on: Trigger, step: str) -> None:
        """Bring the study into the state of the numeric step of that name, and do it."""

        def do() -> None:
            self._enter(run, study_id, on, f"{step} has begun")
            self.worker.run(step, study_id, lambda: not self._goes_on(run, study_id))

        patiently(do, f"study {study_id}: {step}")

    def begin_delivery(self, run: str, study_id: int) -> list[list[str]]:
        """Enter DELIVERING; returns (destination, identity of its series of attempts) pairs."""
        return patiently(lambda: self._begin_delivery(run, study_id), f"study {study_id}: delivery")

    def _begin_delivery(self, run: str, study_id: int) -> list[list[str]]:
        with Session(self.engine) as session:
            study = session.get_one(Study, study_id)
            if not any(series.inputs_digest == study.inputs_digest for series in study.derived):
                raise StudyError("there is nothing to deliver: no derived series of this run; retry the study")
            route = route_of(session, study)
        places = [place.name for place in self.settings.destination if route.goes_to(place.name)]
        if not places:
            gone = ", ".join(route.destinations or ())
            raise StudyError(f'the rule "{route.rule}" sends it to {gone}, no [[destination]] any more; put it back')
        self._enter(run, study_id, Trigger.DELIVER, "derived series are ready")
        return [[place, f"{run}-deliver-{place}-0"] for place in places]

    def shadow(self, study_id: int) -> None:
        """Try other models on the study. Whatever comes of it, the study goes its way."""
        with Session(self.engine) as session:
            if not session.scalar(select(ModelRow.id).where(ModelRow.standing == Standing.SHADOW).limit(1)):
                return
        try:
            self.worker.run("shadow", study_id, lambda: False)
        except (StudyError, WorkerDiedError, OutOfResourcesError, StepCrashedError) as error:
            log.warning("study %d: a shadow was not compared: %s", study_id, error)
            with writing(self.engine) as session:
                why = str(error).strip().splitlines()[-1]
                session.add(Event(study_id=study_id, who="node", what="a shadow was not compared", why=why))

    def send(self, run: str, study_id: int, destination: str, attempt: int) -> str:
        """One attempt at one destination; returns what went wrong, empty when everything is there."""

        def do() -> str:
            return self.deliverer.attempt(study_id, destination, attempt) if self._goes_on(run, study_id) else ""

        return patiently(do, f"study {study_id} to {destination}")

    def fail(self, run: str, study_id: int, reason: str) -> None:
        """The study stops here until a person retries it, or accepts one that quality control rejected.

        One that was cancelled, or that this run is not about any more, is left alone.
        """
        patiently(lambda: self._fail(run, study_id, reason), f"study {study_id}: {reason}")

    def _fail(self, run: str, study_id: int, reason: str) -> None:
        with writing(self.engine) as session:
            study = session.get_one(Study, study_id)
            if not _is_about(study, run):
                log.info("study %s: %s has ended: %s", study.key, run, reason)
                return
            log.error("study %s failed: %s", study.key, reason)
            if State(study.state) is State.CHECKING and records.is_rejected(records.latest(session, study)):
                move(session, study, Trigger.REJECTED, reason)
            else:
                move(session, study, Trigger.FAILED, reason)

    def _enter(self, run: str, study_id: int, on: Trigger, why: str) -> None:
        with writing(self.engine) as session:
            study = session.get_one(Study, study_id)
            if not _is_about(study, run):
                raise CancelledError("cancelled, or superseded by late instances, before this step")
            move(session, study, on, why)

    def _goes_on(self, run: str, study_id: int) -> bool:
        with Session(self.engine) as session:
            return _is_about(session.get_one(Study, study_id), run)


def _is_about(study: Study, run: str) -> bool:
    """Whether the study is being worked on, and by this run: neither cancelled nor superseded."""
    return State(study.state) in WORKING and workflow_id(study) == run


def register(steps: Steps) -> None:
    """Make the two workflows known to the engine. To be called once, before it is launched."""

    def numeric(study: int, on: Trigger, step: str) -> None:
        DBOS.run_step(_numeric_step(step), steps.numeric, _this_run(), study, on, step)

    @DBOS.workflow(name="process_study", max_recovery_attempts=steps.settings.work.recovery_attempts)
    def process_study(study: int, priority: str = Priority.ROUTINE) -> None:
        try:
            numeric(study, Trigger.CONVERT, "convert")
            numeric(study, Trigger.PREPARE, "prepare")
            if DBOS.patch("check"):  # what an earlier version began goes on without
                numeric(study, Trigger.CHECK, "check")
            numeric(study, Trigger.SYNTHESISE, "synthesise")
            numeric(study, Trigger.DERIVE, "derive")
            deliveries = DBOS.run_step({"name": "begin_delivery"}, steps.begin_delivery, _this_run(), study)
        except Exception as error:
            DBOS.run_step({"name": "fail"}, steps.fail, _this_run(), study, reason_of(error))
            raise
        for destination, series in deliveries:
            with SetWorkflowID(f"{series}-1"), SetEnqueueOptions(priority=_in_queue(priority)):
                DBOS.enqueue_workflow(deliveries_to(destination), deliver_to, study, destination, series, 1, priority)
        if DBOS.patch("shadow"):  # after the study is on its way, which a shadow must not hold up
            DBOS.run_step({"name": "shadow"}, steps.shadow, study)

    @DBOS.workflow(name="deliver_to", max_recovery_attempts=None)
    def deliver_to(
        study: int, destination: str, series: str, attempt: int, priority: str = Priority.ROUTINE
    ) -> None:
        # Waiting holds no worker: each attempt is a workflow of its own, delayed (engine note 11).
        run = series.partition("-deliver-")[0]
        try:
            problem = DBOS.run_step({"name": "send"}, steps.send, run, study, destination, attempt)
        except Exception as error:
            DBOS.run_step({"name": "fail"}, steps.fail, run, study, reason_of(error))
            raise
        if problem and problem != GIVEN_UP:
            pause = steps.settings.delivery.backoff(attempt)
            later = SetEnqueueOptions(delay_seconds=pause, priority=_in_queue(priority))
            with SetWorkflowID(f"{series}-{attempt + 1}"), later:
                DBOS.enqueue_workflow(
                    deliveries_to(destination), deliver_to, study, destination, series, attempt + 1, priority
                )


def _in_queue(priority: str) -> int:
    return QUEUE_PRIORITY[Priority(priority)]


def _this_run() -> str:
    """The identity of the workflow that asks: that of the run (node.engine.workflow_id)."""
    if DBOS.workflow_id is None:
        raise RuntimeError("a step was called outside its workflow")
    return DBOS.workflow_id


def _numeric_step(name: str) -> StepOptions:
    """Repeated only when the numeric process died under it: whatever else went wrong would go wrong again."""
    return {
        "name": name,
        "retries_allowed": True,
        "max_attempts": 3,
        "should_retry": lambda error: isinstance(error, WorkerDiedError),
    }


def reason_of(error: Exception) -> str:
    """What the administrator reads: the study's own reason, or that it was nobody's expectation."""
    if isinstance(error, dbos_error.DBOSMaxStepRetriesExceeded) and error.errors:
        error = error.errors[-1]  # what happened, rather than how often
    if isinstance(error, StudyError | CancelledError | WorkerDiedError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
