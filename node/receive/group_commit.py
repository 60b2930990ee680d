"""Group commit: associations that store at the same time wait together for the same fsync.

The first to come leads: it has its own item written at once. Those that come while it waits for the disk are written
together next, led by the first of them. A single association never waits for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

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
        error: Exception | None = None
        try:
            self._write([ticket.item for ticket in batch])
        except Exception as raised:  # noqa: BLE001 - raised again in each thread that waits for it
            error = raised
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        if following is not None:
            following.called.release()
        for ticket in batch:
            ticket.done, ticket.error = True, error
            ticket.called.release()
