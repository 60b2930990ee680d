"""One thread that takes the C-STOREs of all associations, and makes them durable together.

Where each association's thread reads for itself, they hand the interpreter's lock to each other some ten times for each
instance. Here they sleep, and one thread does for all of them what never waits for a peer: it reads whatever has come
on any connection, writes each instance that is whole into the journal, has one fdatasync for all of them, and answers.
Whatever is not a C-STORE in order, of an instance that is held in memory, is left as it is, and the association's own
thread goes on with it: a release, an echo, another service, a large or a broken instance, a header that pydicom has to
read, a folder that has to be made, a peer that is silent for too long or does not read its answers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from node.receive.answer import Answer
from node.receive.command import StoreRequest
from node.receive.pdu_stream import BrokenStreamError, PduStream
from node.receive.store import Store, Written

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # between two looks at who is silent
_CLOSING_SECONDS = 5.0


class Passenger(Protocol):
    """An association that is being read here."""

    def take(self, content: memoryview) -> bool:
        """Act on a P-DATA-TF PDU, header included. False leaves it untouched, for the association's own thread."""

    @property
    def is_whole(self) -> bool:
        """Whether a data set has come to its end, and is to be written."""

    def write(self) -> tuple[StoreRequest, Written] | None:
        """Put it into the journal; None leaves that to the association's own thread."""

    def reply(self, request: StoreRequest, answer: Answer, before: bytes) -> bytes:
        """Send what is still to be sent ``before``, and answer; returns what could not be sent without waiting. Raises
        OSError."""


@dataclass(eq=False)
class Ride:
    """While an association is read here. ``error``: why it ended, if not for what has come; ``unsent``: what the peer
    is to be sent first."""

    passenger: Passenger
    stream: PduStream
    deadline: float
    error: Exception | None = None
    unsent: bytes = b""
    ends: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class SharedReader:
    """For Linux. Its thread is started with the first association."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._poll = select.epoll()
        self._rides: dict[int, Ride] = {}
        self._whole: list[tuple[Ride, StoreRequest, Written]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def carry(self, passenger: Passenger, stream: PduStream) -> Ride:
        """Take what comes, until something comes that is not for here: it is left in the stream."""
        ride = Ride(passenger, stream, time.monotonic() + stream.timeout_seconds)
        try:
            self._begin(ride)
        except (OSError, RuntimeError) as error:  # no descriptor, no memory, no thread left, or closed already
            log.warning("an association has to read for itself: %s", error)
            return ride
        ride.over.wait()
        return ride

    def _begin(self, ride: Ride) -> None:
        with self._lock:
            if self._closed:
                ride.over.set()
                return
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="shared reader", daemon=True)
                thread.start()
                self._thread = thread
            # Of our own, so that who closes the connection meanwhile, to abort, neither takes it out of epoll before
            # that is seen here nor gives its number to another connection.
            descriptor = os.dup(ride.stream.descriptor)
            try:
                self._poll.register(descriptor, select.EPOLLIN)
            except OSError:
                os.close(descriptor)
                raise
            self._rides[descriptor] = ride

    def close(self) -> None:
        """Let everybody go."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)

    def _work(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a fault of ours, raised again in every association's thread
                self._end_all(error)
            self._let_go()
        self._end_all(None)
        self._let_go()

    def _end_all(self, error: Exception | None) -> None:
        self._whole.clear()
        for ride in self._all():
            ride.error, ride.ends = error, True

    def _all(self) -> list[Ride]:
        with self._lock:
            return list(self._rides.values())

    def _turn(self) -> None:
        came = self._poll.poll(_LOOK_SECONDS)
        now = time.monotonic()
        for descriptor, _ in came:
            with self._lock:
                ride = self._rides[descriptor]
            self._read(ride)
        self._acknowledge()
        self._look(now)

    def _read(self, ride: Ride) -> None:
        stream, passenger = ride.stream, ride.passenger
        in_the_middle = stream.begun
        try:
            ride.ends = not stream.take_what_came()
            while not ride.ends and (pdu := stream.look()) is not None:
                if not passenger.take(pdu.content):
                    ride.ends = True
                    break
                stream.passed(pdu)
                in_the_middle = False
                if passenger.is_whole:
                    self._write(ride)
        except BrokenStreamError:
            ride.ends = True  # the association's own thread meets it again
        except Exception as error:  # noqa: BLE001 - raised again in the association's own thread, which it ends
            ride.error, ride.ends = error, True
        if not in_the_middle:
            ride.deadline = time.monotonic() + stream.timeout_seconds

    def _write(self, ride: Ride) -> None:
        found = ride.passenger.write()
        if found is None:
            ride.ends = True
        else:
            self._whole.append((ride, *found))

    def _acknowledge(self) -> None:
        whole, self._whole = self._whole, []
        if not whole:
            return
        answer = self._store.acknowledge([written for _, _, written in whole])
        for ride, request, _ in whole:
            try:
                ride.unsent = ride.passenger.reply(request, answer, ride.unsent)
            except Exception as error:  # noqa: BLE001 - as above
                ride.error = error
            ride.ends |= bool(ride.unsent or ride.error)

    def _look(self, came: float) -> None:
        """Who has been silent for too long, or is too slow? All that had come at that moment is read. What the disk
        has taken since then is nobody's fault."""
        spent = time.monotonic() - came
        for ride in self._all():
            if spent > _LOOK_SECONDS:
                ride.deadline += spent
            if ride.deadline < came and not ride.ends:
                ride.error, ride.ends = TimeoutError("timed out"), True

    def _let_go(self) -> None:
        with self._lock:
            ending = {descriptor: ride for descriptor, ride in self._rides.items() if ride.ends}
            for descriptor, ride in ending.items():
                del self._rides[descriptor]
                with contextlib.suppress(OSError):
                    self._poll.unregister(descriptor)
                os.close(descriptor)
                ride.over.set()
