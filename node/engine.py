"""The durable engine (DBOS) set up as the engine notes demand: what starts work, and what starts it again."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO
from uuid import uuid4

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node.commitment_services import CommitmentRequest
from node.database import writing
from node.files import make_data_folder
from node.routing.rules import Priority
from node.settings import DimseDestination, Settings
from node.tables import Study

STUDIES = "studies"
_APPLICATION = "quarterdose"
# A constant: the default is a hash of the code, and pending work would be stranded by an upgrade (engine note 4).
_VERSION = "1"

# What waits in a queue goes by this number, the smallest first, then by how long it has waited.
QUEUE_PRIORITY = {Priority.STAT: 1, Priority.HIGH: 2, Priority.ROUTINE: 3, Priority.LOW: 4}

RESUMABLE = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
FINISHED = "SUCCESS"


class AlreadyRunningError(Exception):
    """Another process works on this data folder."""


def lock(settings: Settings) -> IO[str]:
    """Hold the data folder for this process; two live ones under one executor id would run a step twice (note 2).

    Raises AlreadyRunningError, or OSError with the remedy.
    """
    path: Path = settings.node.data / "node.lock"
    make_data_folder(path.parent)
    try:
        file = path.open("a+")
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}): run the node as the user to whom the data folder belongs"
        ) from error
    try:
        _flock(file)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise AlreadyRunningError(
            f"another node (process {holder}) works on {settings.node.data}; stop it, or set node.data elsewhere"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _flock(file: IO[str]) -> None:
    """Raises BlockingIOError when another process has it, and not just for the moment of a look (``is_at_work``)."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.2)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_at_work(settings: Settings) -> bool:
    """Whether a node runs on this data folder: what commands ask for is done by it."""
    try:
        with (settings.node.data / "node.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def configure(settings: Settings, engine: Engine) -> None:
    """Make the engine known; workflows are registered between this and ``launch``."""
    config: DBOSConfig = {
        "name": _APPLICATION,
        "system_database_engine": engine,
        "executor_id": settings.node.name,
        "application_version": _VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
        "notification_listener_polling_interval_sec": 1.0,
    }
    DBOS(config=config)


def launch(settings: Settings) -> None:
    """Create the engine's tables, resume what was interrupted, and start taking work.

    Each destination and each source has queues of its own: one that hangs delays no other.
    """
    DBOS.launch()
    DBOS.register_queue(STUDIES, worker_concurrency=1, polling_interval_sec=0.5)
    for destination in settings.destination:
        DBOS.register_queue(deliveries_to(destination.name), worker_concurrency=1, polling_interval_sec=0.5)
    for source in settings.source:
        DBOS.register_queue(pulls_from(source.name), worker_concurrency=1, polling_interval_sec=0.5)
        DBOS.register_queue(priors_from(source.name), worker_concurrency=1, polling_interval_sec=0.5)
    known = [peer.ae_title for peer in settings.peer]
    known += [place.ae_title for place in settings.destination if isinstance(place, DimseDestination)]
    for ae_title in dict.fromkeys(known):
        DBOS.register_queue(commitments_to(ae_title), worker_concurrency=1, polling_interval_sec=0.5)


def deliveries_to(destination: str) -> str:
    """The name of the queue of one destination."""
    return f"deliveries-{destination}"


def pulls_from(source: str) -> str:
    """The name of the queue of one source."""
    return f"pulls-{source}"


def priors_from(source: str) -> str:
    """The name of the queue for the priors of one source: whatever they take, no other pull waits for them."""
    return f"priors-{source}"


def commitments_to(ae_title: str) -> str:
    """The name of the queue of the results of one peer's storage commitments."""
    return f"commitments-{ae_title}"


# A peer should have the answer to its request before the result comes over another association.
_AFTER_THE_ANSWER_SECONDS = 0.5


class WorkStarter:
    """Starts workflows from anywhere: in the transaction that makes them due (engine note 9)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client = DBOSClient(
            system_database_engine=engine, serializer=DBOSPortableJSONSerializer(), application_name=_APPLICATION
        )

    def process(self, session: Session, study: Study, priority: Priority) -> None:
        """Enqueue the study's current run, within the caller's transaction."""
        options: EnqueueOptions = {
            "workflow_name": "process_study",
            "queue_name": STUDIES,
            "workflow_id": workflow_id(study),
            "app_version": _VERSION,
            "priority": QUEUE_PRIORITY[priority],
        }
        self._client.enqueue_in_transaction(session, options, study.id, priority)

    def deliver(self, session: Session, study: Study, destination: str, series: str, priority: Priority) -> None:
        """Enqueue a fresh series of attempts to deliver, within the caller's transaction; ``series`` identifies it."""
        options: EnqueueOptions = {
            "workflow_name": "deliver_to",
            "queue_name": deliveries_to(destination),
            "workflow_id": f"{series}-1",
            "app_version": _VERSION,
            "priority": QUEUE_PRIORITY[priority],
        }
        self._client.enqueue_in_transaction(session, options, study.id, destination, series, 1, priority)

    def pull(self, session: Session, pull_id: int, source: str, is_prior: bool) -> None:
        """Enqueue the retrieval of a study, within the caller's transaction."""
        options: EnqueueOptions = {
            "workflow_name": "retrieve",
            "queue_name": priors_from(source) if is_prior else pulls_from(source),
            "workflow_id": f"pull-{pull_id}-1",
            "app_version": _VERSION,
        }
        self._client.enqueue_in_transaction(session, options, pull_id, source, 1, 1, is_prior)

    def seek_priors(self, session: Session, study: Study, source: str) -> None:
        """Enqueue the search for a study's priors, within the caller's transaction."""
        options: EnqueueOptions = {
            "workflow_name": "seek_priors",
            "queue_name": priors_from(source),
            "workflow_id": f"priors-{study.key}-{source}-1",
            "app_version": _VERSION,
        }
        self._client.enqueue_in_transaction(session, options, study.id, study.key, source, 1, 1)

    def tell_commitment(self, request: CommitmentRequest) -> None:
        """Enqueue telling the result of a storage commitment that a peer asked for. Raises SQLAlchemyError."""
        identity = uuid4().hex
        options: EnqueueOptions = {
            "workflow_name": "tell_commitment",
            "queue_name": commitments_to(request.ae_title),
            "workflow_id": f"commitment-{identity}-1",
            "app_version": _VERSION,
            "delay_seconds": _AFTER_THE_ANSWER_SECONDS,
        }
        with writing(self._engine) as session:
            self._client.enqueue_in_transaction(session, options, asdict(request), identity, 1)

    def resume(self, run: str) -> None:
        """Rewind a run that ended in one of ``RESUMABLE`` to the step that failed (engine note 10)."""
        steps = self._client.list_workflow_steps(run)
        failed = next((step["function_id"] for step in steps if step["error"] is not None), None)
        done = max((step["function_id"] for step in steps), default=0)
        self._client.rewind_workflow(
            run, start_step=failed or done + 1, application_version=_VERSION, queue_name=STUDIES
        )

    def cancel(self, run: str) -> None:
        """Cancel a run; its numeric step is stopped by the node when it sees the study's state."""
        if self.status(run) is not None:
            self._client.cancel_workflow(run)

    def status(self, run: str) -> str | None:
        """The engine's word on a run: ENQUEUED, PENDING, SUCCESS, ERROR, ..., or None when it knows of none."""
        found = self._client.list_workflows(workflow_ids=[run])
        return found[0].status if found else None


def workflow_id(study: Study) -> str:
    """One durable workflow per study and run."""
    return f"study-{study.key}-run-{study.run}"
