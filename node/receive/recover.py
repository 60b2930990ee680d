"""What was acknowledged before a crash and lacks its file or its row: both are made from the journal."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator

from node.files import DataFolder, write_durably
from node.receive.header_scan import Identity
from node.receive.journal import Journal, Record
from node.receive.record import Arrival, Ledger

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 200


def note_of(arrival: Arrival) -> bytes:
    """What the journal keeps of an arrival beside its bytes."""
    return json.dumps({**vars(arrival), "identity": vars(arrival.identity)}).encode()


def arrival_of(note: bytes) -> Arrival:
    """The inverse of ``note_of``."""
    content = json.loads(note)
    return Arrival(**{**content, "identity": Identity(**content["identity"])})


def intact(records: Iterable[Record]) -> Iterator[tuple[Arrival, Record]]:
    """Those whose data set is as it was received. The others were not written to the end: nobody was told that they are
    stored."""
    for record in records:
        arrival = arrival_of(record.note)
        if hashlib.sha256(record.content).hexdigest() == arrival.digest:
            yield arrival, record


def recover(journal: Journal, ledger: Ledger, data: DataFolder) -> None:
    """Write the files and rows of all that the journal holds, and empty it. What is there already stays as it is.

    Raises OSError or SQLAlchemyError; the journal is as it was then.
    """
    arrivals: list[Arrival] = []
    for arrival, record in intact(journal.left()):
        write_durably(record.head + record.content, data.root / arrival.path, data.incoming)
        arrivals.append(arrival)
    arrivals.sort(key=lambda arrival: arrival.received)  # the journal's segments are in no order
    for start in range(0, len(arrivals), _ROWS_AT_ONCE):
        ledger.write(arrivals[start : start + _ROWS_AT_ONCE])
    if arrivals:
        log.warning("%d instances were taken from the journal, after an end that was not orderly", len(arrivals))
    journal.clear()
