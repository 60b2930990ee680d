"""The delivery ledger: one row for each derived instance and destination, and how far it has come.

QUEUED → SENDING → SENT → CONFIRMED (found there by a query) or COMMITTED (the destination has taken responsibility,
storage commitment, PS3.4 Annex J). ``settled`` says when nothing more is asked of the row: at SENT where the
configuration asks for no confirmation, else at CONFIRMED or COMMITTED. What a crash leaves at SENDING is in doubt.
SUPERSEDED: a newer result stands for the study, and this one was not there yet; it is not sent any more.
SPARE: another kind of series goes there; NOT_TAKEN: the destination does not accept it, another goes (node.fallback).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from node.database import writing
from node.routing.record import route_of
from node.settings import Settings
from node.states import State, Trigger, move
from node.tables import Delivery, DerivedSeriesRow, Event, Study, now

log = logging.getLogger(__name__)

QUEUED, SENDING, SENT, CONFIRMED, COMMITTED = "QUEUED", "SENDING", "SENT", "CONFIRMED", "COMMITTED"
SUPERSEDED, SPARE, NOT_TAKEN = "SUPERSEDED", "SPARE", "NOT_TAKEN"
ARRIVED = frozenset({SENT, CONFIRMED, COMMITTED})


def deliveries_of(study: Study, destination: str | None = None) -> Select[Delivery]:
    """The rows of what was made of the study's present inputs, for one destination or for all."""
    query = (
        select(Delivery)
        .join(DerivedSeriesRow, Delivery.derived_series_id == DerivedSeriesRow.id)
        .where(
            DerivedSeriesRow.study_id == study.id,
            DerivedSeriesRow.inputs_digest == study.inputs_digest,
            DerivedSeriesRow.superseded_by.is_(None),
        )
        .order_by(Delivery.id)
    )
    return query if destination is None else query.where(Delivery.destination == destination)


def open_deliveries(study: Study, destination: str | None = None) -> Select[Delivery]:
    """Those of them that are not settled yet."""
    return deliveries_of(study, destination).where(Delivery.settled.is_(None))


def mark(
    engine: Engine, rows: Iterable[Delivery], state: str, note: str = "", settled: bool = False,
    unless_reported: bool = False,
) -> bool:  # fmt: skip
    """Record how far these rows have come, with what there is to say about it.

    Returns whether all of them may go on: what has been superseded meanwhile is not sent (again), and with
    ``unless_reported`` what the destination's answer to storage commitment has changed since they were read stays.
    """
    moment, goes_on = now(), True
    with writing(engine) as session:
        for known in rows:
            row = session.get_one(Delivery, known.id)
            if unless_reported and (row.state, row.transaction_uid) != (known.state, known.transaction_uid):
                goes_on = False
                continue
            superseded = row.state == SUPERSEDED
            if superseded and state in (QUEUED, SENDING):
                goes_on = False
                continue
            row.attempts += state == SENDING and row.state != SENDING
            if state == SENT and row.state != SENT:
                row.sent = moment
            if state in (QUEUED, SENDING):
                row.sent = row.asked = row.transaction_uid = None
            row.state, row.error = state, note
            row.settled = moment if settled or superseded else None
    return goes_on


def supersede(session: Session, study: Study, made: Sequence[DerivedSeriesRow]) -> None:
    """From now on these series stand for the study, and not what was made of other inputs or by other weights.

    What is not at its destination yet of those others is not sent any more. Where one of these had been superseded
    itself (the study holds again what it held before), it is to be delivered after all.
    """
    identity = {(row.inputs_digest, row.model_digest) for row in made}
    for row in made:
        row.superseded_by = None
        for delivery in row.deliveries:
            if delivery.state == SUPERSEDED:
                delivery.state, delivery.error, delivery.settled = QUEUED, "", None
    for row in study.derived:
        if (row.inputs_digest, row.model_digest) in identity or row.superseded_by is not None:
            continue
        row.superseded_by = next((one.id for one in made if one.kind == row.kind), made[0].id)
        newer = next(one.series_instance_uid for one in made if one.id == row.superseded_by)
        unsent = _withdraw(row.deliveries)
        why = f"{row.kind} {row.series_instance_uid} is superseded by {newer}"
        if unsent:
            why += f"; not sent any more to {', '.join(unsent)}"
        log.info("study %s: %s", study.key, why)
        session.add(Event(study_id=study.id, who="node", what="result superseded", why=why))


def _withdraw(deliveries: Iterable[Delivery]) -> list[str]:
    """Ask nothing more of these rows; returns the destinations that some of them had not reached."""
    unsent = set()
    for row in deliveries:
        if row.settled is None and row.state not in ARRIVED:
            doubt = "; it may be there: a newer result was made while it was sent" if row.state == SENDING else ""
            row.state, row.error = SUPERSEDED, f"a newer result stands for the study{doubt}"
            unsent.add(row.destination)
        row.settled = row.settled or now()
    return sorted(unsent)


def remember_request(engine: Engine, rows: Iterable[Delivery], transaction_uid: str | None) -> None:
    """Write down, before it is asked, that the destination's answer to this transaction will speak of these rows."""
    with writing(engine) as session:
        for known in rows:
            row = session.get_one(Delivery, known.id)
            row.transaction_uid, row.asked = transaction_uid, now() if transaction_uid else None


def record_commitment(
    engine: Engine, transaction_uid: str, committed: Iterable[str], failed: Mapping[str, str]
) -> list[int]:
    """What a destination reported: the rows of ``committed`` SOP Instance UIDs are settled, those of ``failed`` (with
    the reason) wait to be sent again, or bear it where they were settled before. Returns the studies concerned; none
    when the transaction is not known (any more).
    """
    taken = set(committed)
    studies: set[int] = set()
    moment = now()
    with writing(engine) as session:
        for row in session.scalars(select(Delivery).where(Delivery.transaction_uid == transaction_uid)):
            series = session.get_one(DerivedSeriesRow, row.derived_series_id)
            if row.sop_instance_uid in taken and row.state in ARRIVED:
                row.state, row.error, row.settled = COMMITTED, "", moment
            elif row.sop_instance_uid in failed and (row.settled is None or row.state in ARRIVED):
                why = f"{row.destination} did not commit to it: {failed[row.sop_instance_uid]}"
                if row.settled is None:
                    row.state, row.sent, row.asked, row.transaction_uid = QUEUED, None, None, None
                else:
                    why += f"; it was settled as {row.state} before: see there whether it is kept"
                row.error = why
                session.add(Event(study_id=series.study_id, who=row.destination, what="commitment failed", why=why))
                log.warning("study %d: %s", series.study_id, why)
            studies.add(series.study_id)
    return sorted(studies)


def finish(settings: Settings, engine: Engine, study_id: int) -> None:
    """DELIVERED once nothing is open for any destination that is still configured and that the run is for; FAILED where
    no such destination is left and the result is nowhere."""
    with writing(engine) as session:
        study = session.get_one(Study, study_id)
        route = route_of(session, study)
        wanted = {place.name for place in settings.destination if route.goes_to(place.name)}
        still_open = {row.destination for row in session.scalars(open_deliveries(study))}
        if State(study.state) is not State.DELIVERING or still_open & wanted:
            return
        places, gone = _places(study), ", ".join(sorted(still_open))
        if gone and not places:
            remedy = f"put it back and `quarterdose studies retry {study.key}`, or `force` it to have it sent elsewhere"
            move(session, study, Trigger.FAILED, f"no configured destination is left for it: {gone} is gone; {remedy}")
            return
        why = f"the virtual series is at {'; '.join(places)}"
        if gone:
            why += f"; left out, for neither the configuration nor its rule names it any more: {gone}"
        move(session, study, Trigger.DELIVERED, why)


def _places(study: Study) -> list[str]:
    """Each destination with the least that is known of its instances: ``pacs (committed)``."""
    order = (SENT, CONFIRMED, COMMITTED)
    least: dict[str, int] = {}
    for series in study.derived:
        for row in series.deliveries:
            if series.superseded_by is None and row.settled is not None and row.state in order:
                least[row.destination] = min(least.get(row.destination, len(order)), order.index(row.state))
    return [f"{name} ({order[rank].lower()})" for name, rank in sorted(least.items())]


def oldest(moments: Iterable[datetime | None]) -> datetime | None:
    """The earliest of the moments that are known."""
    return min((moment for moment in moments if moment is not None), default=None)
