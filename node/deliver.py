"""Delivering: the derived instances to each destination by C-STORE, nothing twice, nothing forgotten.

The ledger says SENDING before an instance goes out and SENT after its success. What a crash leaves at SENDING is in
doubt: the destination is asked by C-FIND before it is sent again (shared engine notes).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict

from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from node.database import writing
from node.files import DataFolder
from node.scu import NoFindError, Outgoing, Peer, RefusedError, SendError, StorageScu
from node.settings import Destination, Settings
from node.states import State, move
from node.tables import Delivery, DerivedSeriesRow, Event, Study, now

log = logging.getLogger(__name__)

QUEUED, SENDING, SENT = "QUEUED", "SENDING", "SENT"
GIVEN_UP = "given up"


def attempt(settings: Settings, engine: Engine, study_id: int, destination_name: str, number: int) -> str:
    """Try to deliver what is still open for one destination.

    Returns "" when there is nothing left to do, GIVEN_UP when patience has ended (the study is FAILED then), otherwise
    what went wrong this time.
    """
    destination = next((place for place in settings.destination if place.name == destination_name), None)
    # One attempt at a time for each place: two series of attempts, from before and after a retry, may both be due.
    with _turns[destination_name]:
        with Session(engine) as session:
            study = session.get_one(Study, study_id)
            if State(study.state) is not State.DELIVERING:
                return ""  # cancelled meanwhile, or a replayed step
            rows = list(session.scalars(open_deliveries(study, destination_name)))
        try:
            if rows and destination is not None:
                _send(settings, engine, destination, rows)
        except SendError as error:
            return _not_yet(settings, engine, study_id, destination_name, number, str(error))
        _finish(settings, engine, study_id)
    return ""


_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def _send(settings: Settings, engine: Engine, destination: Destination, rows: list[Delivery]) -> None:
    folder = DataFolder(settings.node.data)
    peer = Peer(
        destination.ae_title, destination.host, destination.port, settings.node.ae_title,
        settings.delivery.timeout_seconds,
    )  # fmt: skip
    files = {
        row.id: Outgoing(folder.root / row.path, row.sop_class_uid, row.sop_instance_uid, ExplicitVRLittleEndian)
        for row in rows
    }
    doubtful = destination.find_after_crash and any(row.state == SENDING for row in rows)
    with StorageScu(peer, list(files.values()), find=doubtful) as scu:
        for row in rows:
            if doubtful and row.state == SENDING and _is_known_there(engine, scu, row):
                _mark(engine, row.id, SENT, "found at the destination after a crash")
                continue
            _mark(engine, row.id, SENDING)
            try:
                scu.store(files[row.id])
            except RefusedError as error:
                # The peer said no: it is not there, so there is nothing to doubt. Silence leaves it at SENDING.
                _mark(engine, row.id, QUEUED, str(error))
                raise
            _mark(engine, row.id, SENT)


def _is_known_there(engine: Engine, scu: StorageScu, row: Delivery) -> bool:
    """Whether the destination says that it holds the instance. One that cannot be asked gets it again: the same SOP
    Instance UID a second time does no harm."""
    with Session(engine) as session:
        series = session.get_one(DerivedSeriesRow, row.derived_series_id)
        study, series_instance_uid = series.study.study_instance_uid, series.series_instance_uid
    try:
        return scu.has(study, series_instance_uid, row.sop_instance_uid)
    except NoFindError as error:
        log.warning("%s; a doubtful instance is sent again", error)
        return False


def _mark(engine: Engine, delivery_id: int, state: str, note: str = "") -> None:
    with writing(engine) as session:
        row = session.get_one(Delivery, delivery_id)
        row.attempts += state == SENDING and row.state != SENDING
        row.state, row.error = state, note
        row.sent = now() if state == SENT else None


def _not_yet(settings: Settings, engine: Engine, study_id: int, destination: str, number: int, problem: str) -> str:
    with writing(engine) as session:
        study = session.get_one(Study, study_id)
        waited = sum(settings.delivery.backoff(earlier) for earlier in range(1, number))
        if waited > settings.delivery.give_up_hours * 3600:
            move(session, study, State.FAILED, f"not delivered to {destination}: {problem}; retry when it is back")
            return GIVEN_UP
        pause = settings.delivery.backoff(number)
        why = f"attempt {number}: {problem}; next in {pause:g} s"
        log.warning("study %s to %s: %s", study.key, destination, why)
        session.add(Event(study_id=study_id, who="node", what=f"not delivered to {destination}", why=why))
        study.doing = f"waiting for {destination}: {problem}"
    return problem


def _finish(settings: Settings, engine: Engine, study_id: int) -> None:
    """DELIVERED once nothing is open for any destination that is still configured."""
    configured = {place.name for place in settings.destination}
    with writing(engine) as session:
        study = session.get_one(Study, study_id)
        still_open = {row.destination for row in session.scalars(open_deliveries(study))}
        if State(study.state) is not State.DELIVERING or still_open & configured:
            return
        rows = [row for series in study.derived for row in series.deliveries if row.state == SENT]
        why = f"the virtual series is at {', '.join(sorted({row.destination for row in rows}))}"
        if still_open:
            why += f"; no longer configured and left out: {', '.join(sorted(still_open))}"
        move(session, study, State.DELIVERED, why)


def open_deliveries(study: Study, destination: str | None = None) -> Select[Delivery]:
    """What was made of the study's present inputs and is not sent yet, for one destination or for all."""
    query = (
        select(Delivery)
        .join(DerivedSeriesRow, Delivery.derived_series_id == DerivedSeriesRow.id)
        .where(
            DerivedSeriesRow.study_id == study.id,
            DerivedSeriesRow.inputs_digest == study.inputs_digest,
            Delivery.state != SENT,
        )
        .order_by(Delivery.id)
    )
    return query if destination is None else query.where(Delivery.destination == destination)
