"""Delivering: the derived instances to each destination by C-STORE, nothing twice, nothing forgotten.

The ledger says SENDING before an instance goes out and SENT after its success. What a crash leaves at SENDING is in
doubt: the destination is asked by C-FIND before it is sent again (shared engine notes).
"""

from __future__ import annotations

import logging

from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.files import DataFolder
from node.scu import Outgoing, Peer, RefusedError, SendError, StorageScu
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
    destination = next(d for d in settings.destination if d.name == destination_name)
    with Session(engine) as session:
        if State(session.get_one(Study, study_id).state) is not State.DELIVERING:
            return ""  # cancelled meanwhile, or a replayed step
        open_rows = list(session.scalars(_open(study_id, destination_name)))
    try:
        if open_rows:
            _send(settings, engine, destination, open_rows)
    except SendError as error:
        return _not_yet(settings, engine, study_id, destination, number, str(error))
    _finish(engine, study_id)
    return ""


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
            if doubtful and row.state == SENDING and _is_there(engine, scu, row):
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


def _is_there(engine: Engine, scu: StorageScu, row: Delivery) -> bool:
    with Session(engine) as session:
        series = session.get_one(DerivedSeriesRow, row.derived_series_id)
        return scu.has(series.study.study_instance_uid, series.series_instance_uid, row.sop_instance_uid)


def _mark(engine: Engine, delivery_id: int, state: str, note: str = "") -> None:
    with Session(engine) as session, session.begin():
        row = session.get_one(Delivery, delivery_id)
        row.attempts += state == SENDING and row.state != SENDING
        row.state, row.error = state, note
        row.sent = now() if state == SENT else None


def _not_yet(
    settings: Settings, engine: Engine, study_id: int, destination: Destination, number: int, problem: str
) -> str:
    with Session(engine) as session, session.begin():
        study = session.get_one(Study, study_id)
        waited = sum(settings.delivery.backoff(earlier) for earlier in range(1, number))
        if waited > settings.delivery.give_up_hours * 3600:
            move(session, study, State.FAILED, f"not delivered to {destination.name}: {problem}; retry when it is back")
            return GIVEN_UP
        pause = settings.delivery.backoff(number)
        why = f"attempt {number}: {problem}; next in {pause:g} s"
        log.warning("study %s to %s: %s", study.key, destination.name, why)
        session.add(Event(study_id=study_id, who="node", what=f"not delivered to {destination.name}", why=why))
        study.doing = f"waiting for {destination.name}: {problem}"
    return problem


def _finish(engine: Engine, study_id: int) -> None:
    """DELIVERED once nothing is open for any destination."""
    with Session(engine) as session, session.begin():
        study = session.get_one(Study, study_id)
        if State(study.state) is not State.DELIVERING or session.scalars(_open(study_id)).first() is not None:
            return
        study.doing = ""
        places = sorted({row.destination for series in study.derived for row in series.deliveries})
        move(session, study, State.DELIVERED, f"the virtual series is at {', '.join(places)}")


def _open(study_id: int, destination: str | None = None):  # type: ignore[no-untyped-def]
    query = (
        select(Delivery)
        .join(DerivedSeriesRow, Delivery.derived_series_id == DerivedSeriesRow.id)
        .where(DerivedSeriesRow.study_id == study_id, Delivery.state != SENT)
        .order_by(Delivery.id)
    )
    return query if destination is None else query.where(Delivery.destination == destination)
