"""Having a destination say that it keeps what was sent: storage commitment first, a query where there is none.

As storage commitment SCU (PS3.4 Annex J) the node writes its Transaction UID down before it asks, so that an answer is
understood whenever and over whatever association it comes: this one, or a new one to the receiver, days later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import Engine

from node.header.elements import Elements
from node.ledger import (
    CONFIRMED,
    QUEUED,
    SENT,
    finish,
    mark,
    oldest,
    record_commitment,
    remember_request,
)
from node.sender import NotOfferedError, Outgoing, Sender, SendError, Whereabouts
from node.settings import Settings
from node.tables import Delivery, now

log = logging.getLogger(__name__)

_SAME_ASSOCIATION_SECONDS = 3.0
_INDEXING_SECONDS = 60.0  # an archive may answer success before its index knows of the instance


def _reason(item: Elements) -> str:
    reason = item.integer("FailureReason")
    return "it does not say why" if reason is None else f"failure reason 0x{reason:04X}"


class WaitingError(Exception):
    """Everything is sent; the destination has not yet said that it keeps it."""


class Reports:
    """Where the answers to storage commitment requests end up, from whichever association they come."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._came = threading.Condition()
        self._count = 0

    def take(self, report: Dataset) -> bool:
        """Record one N-EVENT-REPORT's Event Information (PS3.4 table J.3-2); whether it was an answer to us."""
        told = Elements(report)
        committed = [item.text("ReferencedSOPInstanceUID") for item in told.items("ReferencedSOPSequence")]
        failed = {item.text("ReferencedSOPInstanceUID"): _reason(item) for item in told.items("FailedSOPSequence")}
        studies = record_commitment(self._engine, told.text("TransactionUID"), committed, failed)
        for study in studies:
            finish(self._settings, self._engine, study)
        with self._came:
            self._count += 1
            self._came.notify_all()
        return bool(studies)

    def wait_for_one(self, since: int, seconds: float) -> None:
        """Until a report has come after the first ``since``, or the time is over."""
        with self._came:
            self._came.wait_for(lambda: self._count > since, seconds)

    @property
    def count(self) -> int:
        """How many have come."""
        with self._came:
            return self._count


def request_commitment(
    engine: Engine, sender: Sender, rows: Sequence[tuple[Delivery, Outgoing]], reports: Reports
) -> None:
    """Ask for storage commitment of what was just sent, and wait a moment for an answer over the same association.

    Raises NotOfferedError (nothing is remembered then) or SendError.
    """
    transaction, before = generate_uid(), reports.count
    asked = [row for row, _ in rows]
    remember_request(engine, asked, transaction)
    try:
        sender.request_commitment(transaction, [file for _, file in rows])
    except NotOfferedError:
        remember_request(engine, asked, None)
        raise
    reports.wait_for_one(before, _SAME_ASSOCIATION_SECONDS)


def is_patient(rows: Sequence[Delivery], timeout_seconds: float) -> bool:
    """Whether all of these wait for an answer to storage commitment that may still come."""
    asked = oldest(row.asked for row in rows)
    return all(row.asked is not None for row in rows) and asked is not None and (
        now() - asked < timedelta(seconds=timeout_seconds)
    )


def find_there(
    engine: Engine, sender: Sender, rows: Sequence[Delivery], whereabouts: Callable[[Delivery], Whereabouts]
) -> None:
    """Settle what the destination's query finds; what it does not find is sent again after a while.

    A destination that cannot be asked at all leaves the success of the sending as all that is known: settled as SENT.
    What it reports by storage commitment meanwhile holds, whatever the query says.
    Raises WaitingError while an instance sent a moment ago is not found yet, SendError when one is lost.
    """
    for row in rows:
        try:
            there = sender.has(whereabouts(row))
        except NotOfferedError as error:
            log.warning("%s: what it was sent counts as delivered on its word alone", error)
            mark(engine, [row], SENT, f"on its word alone: {error}", settled=True, unless_reported=True)
            continue
        if there:
            mark(engine, [row], CONFIRMED, settled=True, unless_reported=True)
        elif row.sent is not None and now() - row.sent < timedelta(seconds=_INDEXING_SECONDS):
            raise WaitingError(f"{row.destination} took {row.sop_instance_uid}, but does not find it yet")
        else:
            why = f"{row.destination} answered success, but does not find {row.sop_instance_uid}; it is sent again"
            if mark(engine, [row], QUEUED, why, unless_reported=True):
                raise SendError(why)
