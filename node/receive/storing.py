"""What an association stores: the C-STORE that is coming, as it comes (DICOM PS3.7 section 9.3.1).

The association's own thread gives it one fragment after the other. While that thread sleeps, the shared reader gives it
whole PDUs, of which it takes those that need no waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pynetdicom.association import Association

from node.receive.answer import Answer
from node.receive.command import StoreRequest, store_request, store_response
from node.receive.incoming import Incoming
from node.receive.lane import Lane
from node.receive.pdu_stream import BrokenStreamError, data_values
from node.receive.store import Written

LONGEST_COMMAND = 1 << 16


@dataclass
class _Coming:
    request: StoreRequest
    incoming: Incoming
    is_whole: bool = False

    def add(self, control: int, fragment: memoryview) -> None:
        self.incoming.write(fragment)
        self.is_whole = bool(control & 2)


class Storing:
    """``send``: gives the peer a PDU as far as it takes it at once, and returns the rest; raises OSError."""

    def __init__(self, association: Association, lane: Lane, send: Callable[[bytes], bytes]) -> None:
        self._association = association
        self._lane = lane
        self._send = send
        self._coming: _Coming | None = None
        self.has_stored = False

    @property
    def is_under_way(self) -> bool:
        """Whether a C-STORE has begun and is not yet answered."""
        return self._coming is not None

    @property
    def is_whole(self) -> bool:
        """Whether its data set has come to its end."""
        return self._coming is not None and self._coming.is_whole

    def begin(self, command: bytes, context_id: int) -> bool:
        """A command set has come. False for what is no C-STORE in order of a SOP class negotiated."""
        self._coming = self._begun(command, context_id)
        return self._coming is not None

    def add(self, context_id: int, control: int, fragment: memoryview) -> None:
        """The next fragment of what has begun. Raises BrokenStreamError when it belongs to something else."""
        if self._coming is None or control & 1 or context_id != self._coming.request.context_id:
            raise BrokenStreamError("a data set is interrupted by another message")
        self._coming.add(control, fragment)

    def keep(self) -> bytes:
        """Make the whole data set durable, whatever it takes; the answer's PDU."""
        coming, self._coming, self.has_stored = self._coming, None, True
        if coming is None:
            raise ValueError("nothing has come")
        return store_response(coming.request, self._lane.keep(self._association, coming.request, coming.incoming))

    def close(self) -> None:
        """Nothing more will come."""
        if self._coming is not None:
            self._coming.incoming.close()

    # For the shared reader:

    def take(self, content: memoryview) -> bool:
        """Take a whole P-DATA-TF PDU, header included, of a C-STORE in order whose data set stays so small that it is
        held in memory. False leaves everything as it was."""
        values, coming = list(data_values(content)), self._coming
        if coming is None:
            context_id, control, command = values.pop(0) if values else (0, 0, content[:0])
            plain = control & 3 == 3 and len(command) <= LONGEST_COMMAND
            coming = self._begun(bytes(command), context_id) if plain else None
            if coming is None:
                return False
        size = 0
        for following, (context_id, control, fragment) in enumerate(reversed(values)):
            size += len(fragment)
            if context_id != coming.request.context_id or control & 1 or (control & 2 and following):
                return False
        if not coming.incoming.stays_held(size):
            return False
        self._coming = coming
        for _, control, fragment in values:
            coming.add(control, fragment)
        return True

    def write(self) -> tuple[StoreRequest, Written] | None:
        """Put the whole data set into the journal. None when that takes more than a moment: ``keep`` is to do it."""
        if self._coming is None:
            return None
        request = self._coming.request
        written = self._lane.write(self._association, request, self._coming.incoming)
        if written is None:
            return None
        self._coming = None
        return request, written

    def reply(self, request: StoreRequest, answer: Answer, before: bytes) -> bytes:
        """Send what is still to be sent ``before``, and answer; returns what could not be sent without waiting. Raises
        OSError."""
        return self._send(before + store_response(request, answer))

    def _begun(self, command: bytes, context_id: int) -> _Coming | None:
        context, request = self._association._accepted_cx.get(context_id), store_request(command, context_id)
        if request is None or context is None or context.abstract_syntax != request.sop_class_uid:
            return None
        return _Coming(request, self._lane.open(request, str(context.transfer_syntax[0])))
