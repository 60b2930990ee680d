"""pynetdicom's upper layer service (DICOM PS3.8), stepped by whoever uses it. Belongs to pynetdicom 3.0.4."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from node.receive.pdu_stream import Pdu

log = logging.getLogger(__name__)

# PS3.8 table 9-10
_OPENED = "Evt5"  # transport connection indication
INVALID = "Evt19"  # unrecognised or invalid PDU received
CLOSED = "Evt17"  # transport connection closed
_REQUESTED = "Sta3"  # awaiting the local A-ASSOCIATE response
_ESTABLISHED = "Sta6"


class SteppedDul(DULServiceProvider):  # type: ignore[misc] # pynetdicom is not typed
    """pynetdicom's upper layer without its thread: whoever gives it something to do also has it done."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.lock = threading.RLock()

    def send_pdu(self, primitive: Any) -> None:
        with self.lock:
            super().send_pdu(primitive)
            self.step()

    def take(self, pdu: Pdu) -> None:
        """Have the state machine act on a PDU that came. Raises what pynetdicom raises on impossible ones."""
        with self.lock:
            try:
                decoded, event = self._decode_pdu(bytearray(pdu.content))
            except Exception as error:  # noqa: BLE001 - pynetdicom's decoder meets whatever the network sends
                log.warning("a PDU cannot be decoded: %s", error)
                self.event_queue.put(INVALID)
            else:
                self._recv_pdu.put(decoded)
                self.event_queue.put(event)
            try:
                self.step()
            except ValueError as error:  # as of an even presentation context ID, which is found when it is acted on
                log.warning("a PDU cannot be acted on: %s", error)
                self.happened(INVALID)

    def requested(self) -> None:
        """Be where an A-ASSOCIATE-RQ leads that was acceptable before (PS3.8 table 9-10, AE-6)."""
        with self.lock:
            self.artim_timer.stop()
            self.state_machine.transition(_REQUESTED)

    def accept(self, pdu: bytes) -> None:
        """Answer it with this A-ASSOCIATE-AC (AE-7)."""
        with self.lock:
            self.socket.send(pdu)
            self.state_machine.transition(_ESTABLISHED)

    def happened(self, event: str) -> None:
        """Have the state machine act on an event of PS3.8 table 9-10."""
        with self.lock:
            self.event_queue.put(event)
            self.step()

    def step(self) -> None:
        """Act on all that waits."""
        with self.lock:
            while not self.event_queue.empty() or self._process_recv_primitive():
                try:
                    event = self.event_queue.get(block=False)
                except queue.Empty:  # pragma: no cover - nobody else takes events
                    return
                if self.state_machine.current_state == "Sta1" and event != _OPENED:
                    self._drop()  # the connection broke while something was to be sent: there is nobody to tell
                    return
                self.state_machine.do_action(event)

    def _drop(self) -> None:
        for waiting in (self.event_queue, self.to_provider_queue):
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get(block=False)
