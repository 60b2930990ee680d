"""The running node: every part started in order, and stopped in the opposite one."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading

import pydicom.config
from sqlalchemy import Engine, Select, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node import commitment_results, priors, retrieve
from node import engine as durable
from node.associations import Associations
from node.collect import Collector
from node.commit import Reports
from node.database import open_database, ready, writing
from node.deliver import Deliverer
from node.health import HealthCheck, HealthServer
from node.reach import why_not_listening
from node.receive import Receiver
from node.removed import close_removed
from node.settings import Settings
from node.states import WORKING, Trigger, move
from node.tables import Study
from node.worker import Worker
from node.workflow import Steps, register

log = logging.getLogger(__name__)



def run(settings: Settings) -> None:
    """Run the node until SIGTERM or SIGINT.

    Raises AlreadyRunningError, DatabaseError or OSError (the port is taken) when it cannot start.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A warning about a malformed value would write that value, a name perhaps, into the log.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    _held = durable.lock(settings)  # until this process ends
    engine = open_database(settings)
    ready(engine)
    associations, starter = Associations(), durable.WorkStarter(engine)
    reports = Reports(settings, engine)
    collector = Collector(settings, engine, starter, associations)
    receiver = Receiver(
        settings, engine, associations, on_closed=collector.wake, reports=reports, tell=starter.tell_commitment
    )
    try:
        receiver.start()  # before anything that runs on its own: a port that is taken ends the process here
    except OSError as error:
        raise OSError(why_not_listening("receiver", settings.receiver.host, settings.receiver.port, error)) from error
    worker = Worker(settings)
    worker.start()
    health = HealthServer(settings, HealthCheck(settings, receiver, worker))
    health.start()
    close_removed(settings, engine)
    durable.configure(settings, engine)
    register(Steps(settings, engine, worker, Deliverer(settings, engine, reports)))
    retrieve.register(retrieve.Retriever(settings, engine, receiver.store, associations))
    priors.register(priors.PriorSeeker(settings, engine, starter, associations))
    commitment_results.register(commitment_results.CommitmentResults(settings, engine))
    durable.launch(settings)
    close_the_dead(engine, starter)
    collector.start()
    log.info("%s listens on %s:%d", settings.node.ae_title, settings.receiver.host, settings.receiver.port)
    gc.collect()
    gc.freeze()  # what is loaded stays: to look through all of it again and again took a tenth of the receiver's time
    # Studies that the engine gave up on are looked for now and then; everything else is event-driven.
    while not stop.wait(_LOOK_FOR_DEAD_SECONDS):
        try:
            close_the_dead(engine, starter)
        except SQLAlchemyError:
            log.exception("the database could not be asked for interrupted studies; the next try is in a while")
    log.info("stopping: open associations are ended, interrupted steps continue at the next start")
    health.stop()
    receiver.stop()
    collector.stop()
    logging.shutdown()
    # The way out is the one that is tested most: as after kill -9, every step under way is simply taken up again.
    # Waiting for it, or ending it in an orderly way, would have the engine write that it failed.
    os._exit(0)


_LOOK_FOR_DEAD_SECONDS = 10.0


def close_the_dead(engine: Engine, starter: durable.WorkStarter) -> None:
    """FAIL the studies whose workflow the engine gave up on: they were interrupted too often (engine note 8)."""
    with Session(engine) as session:
        if not any(_gave_up(study, starter) for study in session.scalars(_at_work())):
            return
    with writing(engine) as session:
        for study in session.scalars(_at_work()):
            if _gave_up(study, starter):
                status = starter.status(durable.workflow_id(study))
                why = f"its workflow ended as {status} while the study was {study.state}: interrupted too often"
                remedy = f"look at the log, then `quarterdose studies retry {study.key}`"
                move(session, study, Trigger.FAILED, f"{why}; {remedy}")


def _gave_up(study: Study, starter: durable.WorkStarter) -> bool:
    return starter.status(durable.workflow_id(study)) in durable.RESUMABLE


def _at_work() -> Select[Study]:
    return select(Study).where(Study.state.in_(WORKING))
