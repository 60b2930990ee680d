"""The clerk: one thread that writes the files and rows of instances that are durable already, and tidies the journal.

Nobody waits for it whose instance is in the journal; it writes the rows of what has come meanwhile in one transaction.
Instances that went to the disk on their own wait for their row, as the end of an association does for all of its rows.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from node.receive.journal import Journal, Kept
from node.receive.record import Arrival

_GATHER_SECONDS = 0.2  # while nobody waits: a transaction for each instance would cost more than the instances
_QUIET_SECONDS = 2.0  # then the journal is emptied
_AGAIN_SECONDS = 0.5  # between tries while the disk or the database cannot be written
_MOST_UNWRITTEN = 4000  # instances; then whoever brings more is to wait


@dataclass(eq=False)
class _Entry:
    """``kept``: where the instance is durable meanwhile; None when its file is, and somebody waits for its row."""

    arrival: Arrival
    kept: Kept | None
    written: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Clerk:
    """``write_file`` writes the file of an arrival, not yet durable, from the journal; ``write_rows`` makes the rows of
    a batch durable; both raise what keeps them from it. ``refused`` is told of an acknowledged instance whose row
    cannot be written though the database works. ``tidy`` frees what it can of the journal, at quiet times (True) all of
    it, without being waited for."""

    def __init__(
        self, write_file: Callable[[Arrival, Kept], None],
        write_rows: Callable[[Sequence[Arrival]], None], refused: Callable[[Arrival, Exception], None],
        journal: Journal, tidy: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._write_file, self._write_rows, self._refused = write_file, write_rows, refused
        self._journal, self._tidy = journal, tidy
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._in_hand: list[_Entry] = []
        self._hurry = self._closed = False
        self._thread: threading.Thread | None = None
        self.problem: Exception | None = None
        """Why files or rows cannot be written at present. Nothing more should be taken meanwhile."""

    @property
    def has_room(self) -> bool:
        """Whether more should be brought now, or a little later."""
        return self._unwritten < _MOST_UNWRITTEN

    def await_room(self) -> None:
        """Wait until more can be brought, or until it is known why not."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_room or self.problem is not None or self._closed)

    def later(self, arrival: Arrival, kept: Kept) -> None:
        """Write file and row soon, of an instance that is durable in the journal."""
        self._enter(_Entry(arrival, kept), hurry=False)

    def now(self, arrival: Arrival) -> None:
        """Wait until the row is written of an instance whose file is durable. Raises what kept it from that."""
        entry = _Entry(arrival, None)
        self._enter(entry, hurry=True)
        entry.written.wait()
        if entry.error is not None:
            raise entry.error

    def settle(self, seconds: float) -> bool:
        """Wait until everything given so far has its row; whether it has."""
        end = time.monotonic() + seconds
        with self._changed:
            entries = [*self._in_hand, *self._waiting]
            self._hurry = bool(self._waiting)
            self._changed.notify_all()
        return all(entry.written.wait(max(end - time.monotonic(), 0)) for entry in entries)

    def close(self) -> None:
        """Do nothing more: what has no row yet is in the journal."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _enter(self, entry: _Entry, *, hurry: bool) -> None:
        with self._changed:
            if self._closed and entry.kept is None:
                raise OSError(errno.ESHUTDOWN, "the node is stopping")
            self._waiting.append(entry)
            self._hurry |= hurry or self._unwritten >= _MOST_UNWRITTEN
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="clerk", daemon=True)
                self._thread.start()
            if self._hurry or len(self._waiting) == 1:
                self._changed.notify_all()

    @property
    def _unwritten(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    def _work(self) -> None:
        while self._take():
            quiet = not self._in_hand
            left = self._record(self._in_hand)
            with self._changed:
                self._in_hand = left
                self._changed.notify_all()
            if not left:
                self._tidy(quiet)
        waited_for = [entry for entry in self._in_hand if entry.kept is None]
        self._finish(waited_for, OSError(errno.ESHUTDOWN, "the node is stopping"))

    def _take(self) -> bool:
        """Wait for something to write; having nothing in hand then means that it has been quiet for a while. False when
        closed."""
        with self._changed:
            if self._in_hand:
                self._changed.wait_for(lambda: self._closed, _AGAIN_SECONDS)
            elif self._changed.wait_for(lambda: self._waiting or self._closed, _QUIET_SECONDS):
                self._changed.wait_for(lambda: self._hurry or self._closed, _GATHER_SECONDS)
            self._in_hand, self._waiting = self._in_hand + self._waiting, []
            self._hurry = False
            return not self._closed

    def _record(self, entries: list[_Entry]) -> list[_Entry]:
        """Write files and rows; returns the entries that have to be tried again."""
        if not entries:
            return []
        try:
            for entry in entries:
                if entry.kept is not None:
                    self._write_file(entry.arrival, entry.kept)
            self._write_rows([entry.arrival for entry in entries])
        except (OperationalError, OSError) as error:  # locked, lost, or the disk full: the same for all
            left = [entry for entry in entries if entry.kept is not None]
            self._finish([entry for entry in entries if entry.kept is None], error)
            self.problem = error if left else None
            return left
        except Exception as error:  # noqa: BLE001 - raised where somebody waits for it, else in the log and quarantine
            if len(entries) > 1:  # one that cannot be written must not cost the others
                return [left for entry in entries for left in self._record([entry])]
            return self._refuse(entries[0], error)
        self.problem = None
        self._finish(entries, None)
        return []

    def _refuse(self, entry: _Entry, error: Exception) -> list[_Entry]:
        if entry.kept is not None:
            try:
                self._refused(entry.arrival, error)
            except SQLAlchemyError as problem:
                self.problem = problem
                return [entry]
        self._finish([entry], error)
        return []

    def _finish(self, entries: Sequence[_Entry], error: Exception | None) -> None:
        self._journal.settle([entry.kept for entry in entries if entry.kept is not None])
        for entry in entries:
            entry.error = error
            entry.written.set()
