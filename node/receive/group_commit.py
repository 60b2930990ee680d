"""Group commit: associations that store at the same time wait together for one fsynced transaction.

The first to come leads: it writes its own row at once. Those that come while it waits for the disk are written together
in the next transaction, led by the first of them. A single association never waits for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import OperationalError

Item = TypeVar("Item")


class _Ticket(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = False
        self.error: Exception | None = None
        self.called = threading.Lock()
        self.called.acquire()


class GroupCommit(Generic[Item]):
    """``write`` makes a batch durable or raises; it is called from one thread at a time."""

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[Item]] = []
        self._led = False

    def commit(self, item: Item) -> None:
        """Wait until the item is durable. Raises what ``write`` raised for its batch."""
        ticket = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            lead, self._led = not self._led, True
        if not lead:
            ticket.called.acquire()  # either done, or called to lead
        if not ticket.done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error

    def _lead(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        self._try(batch)
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        if following is not None:
            following.called.release()
        for ticket in batch:
            ticket.done = True
            ticket.called.release()

    def _try(self, batch: list[_Ticket[Item]]) -> None:
        try:
            self._write([ticket.item for ticket in batch])
        except Exception as error:  # noqa: BLE001 - raised again in each thread that waits for it
            # One that cannot be written must not cost the others. A locked or lost database is the same for all.
            if len(batch) > 1 and not isinstance(error, OperationalError | OSError):
                for ticket in batch:
                    self._try([ticket])
                return
            for ticket in batch:
                ticket.error = error
