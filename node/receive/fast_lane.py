"""The fast lane: an association served by one thread, which reads the data of its C-STOREs straight from the socket.

pynetdicom's upper layer state machine, negotiation and services do everything else; its own reader, which runs in a
second thread, passes every PDU through queues and collects whole data sets in memory, is not started. This thread reads
the PDUs and hands them over one by one. P-DATA of a C-STORE request never gets there: each fragment goes to ``Storing``
as it comes. Most of the time the thread sleeps: the shared reader takes C-STOREs in order for all associations at once.

This touches pynetdicom's inside (``DULServiceProvider``, ``Association.run_reactor``) and belongs to version 3.0.4, to
which it is pinned. ``receiver.fast_lane = false`` leaves all of it to pynetdicom; tests/node/receive/test_fast_lane.py
holds the two to the same answers.
"""

from __future__ import annotations

import logging
import socket
import struct
import time

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from node.receive.lane import Lane
from node.receive.negotiation import Negotiated
from node.receive.pdu_stream import P_DATA_TF, BrokenStreamError, Pdu, PduStream, data_values
from node.receive.stepped_dul import CLOSED, INVALID, SteppedDul
from node.receive.storing import LONGEST_COMMAND, Storing

log = logging.getLogger(__name__)

_LONGEST_OTHER_MESSAGE = 16 << 20  # a query or a report, which pynetdicom collects in memory
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, for no time
_FAREWELL_SECONDS = 1.0  # for the peer to close the connection after the last PDU


class FastLaneAssociation(Association):  # type: ignore[misc] # pynetdicom is not typed
    """An acceptor's association. ``start`` it once its socket is set."""

    is_established: bool
    is_aborted: bool
    is_released: bool
    _kill: bool

    def __init__(self, ae: ApplicationEntity, lane: Lane) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.dul: SteppedDul = SteppedDul(self)
        self.acse_timeout = lane.request_seconds
        self.network_timeout = lane.timeout_seconds
        self._lane = lane
        self._command = bytearray()
        self._storing = Storing(self, lane, self._send_at_once)
        self.known: Negotiated | None = None
        self._handed_over = 0  # bytes of the message that pynetdicom is collecting

    def run_reactor(self) -> None:
        """The thread: the request, then one PDU after the other until the end."""
        self._started_dul = True
        self._dul_ready.set()
        try:
            stream = PduStream(self.dul.socket.socket, self._lane.maximum_pdu, self._lane.timeout_seconds)
            self._negotiate(stream)
            while self.is_established:
                self._ride_along(stream)
                if self.is_established:
                    self._serve(stream)
            self._farewell(stream)
        except Exception as error:
            # A connection that breaks is daily business; anything else is a fault of ours and shown in full.
            expected = isinstance(error, OSError | BrokenStreamError)
            log.log(
                logging.INFO if expected else logging.ERROR, "association with %s ended: %s", self.requestor.address,
                error or type(error).__name__, exc_info=None if expected else error,
            )  # fmt: skip
        finally:
            self._close()

    def _abort_blocking(self, block: bool = True) -> None:
        """As pynetdicom's, in every state: there may be nothing left to abort, or no request yet."""
        if self.dul.state_machine.current_state == "Sta6":
            super()._abort_blocking(block=False)
        self.kill()
        if block:
            self.dul.socket._shutdown_socket()  # the thread that reads wakes up and ends

    def _negotiate(self, stream: PduStream) -> None:
        self.dul.step()  # the connection is open
        pdu = stream.next(within_seconds=self._lane.request_seconds)
        if pdu is None:
            return
        asked, negotiations = bytes(pdu.content), self._lane.negotiations
        if not negotiations.keeps(asked):
            self._negotiate_first(pdu)
            return
        known = negotiations.find(asked) or self._negotiate_as_first(pdu, asked)
        if known is not None:
            self._negotiate_again(known)

    def _negotiate_as_first(self, pdu: Pdu, asked: bytes) -> Negotiated | None:
        """Negotiate what has not been asked before, unless another association has done so while this one waited: then
        return what that found."""
        negotiations = self._lane.negotiations
        with negotiations.first():
            known = negotiations.find(asked)
            if known is None:
                self._negotiate_first(pdu)
                if self.is_established and self.requestor.user_identity is None:
                    negotiations.remember(asked, Negotiated.by(self))
            return known

    def _negotiate_first(self, pdu: Pdu) -> None:
        self.dul.take(pdu)
        primitive = self.dul.receive_pdu(wait=False)
        if primitive is None:
            return  # no A-ASSOCIATE-RQ: the state machine has answered
        self.requestor.primitive = primitive
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if not self.is_aborted and not self.is_rejected and not self._kill:
            self.acse.negotiate_association()

    def _negotiate_again(self, known: Negotiated) -> None:
        """What ``negotiate_association`` does, with what it has found for the same request."""
        self.known = known
        self.dul.requested()
        self.requestor.primitive = known.request
        self.requestor.ae_title = known.request.calling_ae_title
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if self.is_aborted or self.is_rejected or self._kill:
            return
        self._accepted_cx, self._rejected_cx = dict(known.accepted), list(known.rejected)
        self.acceptor.primitive = known.response
        self.dul.accept(known.response_pdu)
        evt.trigger(self, evt.EVT_ACCEPTED, {})
        self.is_established = True
        evt.trigger(self, evt.EVT_ESTABLISHED, {})

    def _ride_along(self, stream: PduStream) -> None:
        """Sleep while the shared reader takes our C-STOREs, until something else comes. Who stores nothing, but echoes
        say, should not have to wait for the disk."""
        busy = self._storing.is_under_way or self._command or self.dimse.message is not None or stream.begun
        if self._lane.reader is None or busy or not (self._storing.has_stored and stream.can_be_shared):
            return
        ride = self._lane.reader.carry(self._storing, stream)
        self._send(ride.unsent)
        if isinstance(ride.error, TimeoutError):
            self._abort_for(ride.error)
        elif ride.error is not None:
            raise ride.error
        elif self._storing.is_whole:
            self._answer()

    def _serve(self, stream: PduStream) -> None:
        try:
            pdu = stream.next()
        except (BrokenStreamError, TimeoutError) as error:
            self._abort_for(error)
            return
        if pdu is None:
            self.dul.happened(CLOSED)
        elif pdu.kind == P_DATA_TF:
            try:
                self._take_data(pdu.content)
            except BrokenStreamError as error:
                self._abort_for(error)
                return
        else:
            self.dul.take(pdu)
        self._attend()

    def _abort_for(self, error: Exception) -> None:
        log.warning("association with %s aborted: %s", self.requestor.address, error)
        if self.dul.state_machine.current_state == "Sta6":
            self.dul.happened(INVALID)
        self._attend()

    def _attend(self) -> None:
        """What pynetdicom's own reactor does between two looks."""
        if not (self.dimse.msg_queue.queue or self.dul.to_user_queue.queue or self._kill):
            return
        while self.is_established:
            context_id, message = self.dimse.get_msg(block=False)
            if message is None:
                break
            self._serve_request(message, context_id)
        if self.is_established and self.acse.is_release_requested():
            self.is_released, self.is_established = True, False
            evt.trigger(self, evt.EVT_RELEASED, {})  # first: a peer that has its answer may count on the free slot
            self.acse.send_release(is_response=True)
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
        if self._kill:
            self.is_established = False

    def _take_data(self, content: memoryview) -> None:
        for value in data_values(content):
            self._take_fragment(*value)

    def _take_fragment(self, context_id: int, control: int, fragment: memoryview) -> None:
        is_command, is_last = control & 1, control & 2
        if self.dimse.message is not None:
            self._hand_over(context_id, control, fragment)
        elif self._storing.is_under_way:
            self._storing.add(context_id, control, fragment)
            if self._storing.is_whole:
                self._answer()
        elif is_command:
            self._command += fragment
            if len(self._command) > LONGEST_COMMAND:
                raise BrokenStreamError(f"a command set of more than {LONGEST_COMMAND} bytes")
            if is_last:
                self._begin(context_id)
        else:
            raise BrokenStreamError("a data set comes without its command")

    def _begin(self, context_id: int) -> None:
        """The command set is there: a C-STORE in order is ours, everything else is pynetdicom's."""
        command, self._command = bytes(self._command), bytearray()
        if not self._storing.begin(command, context_id):
            self._handed_over = 0
            self._hand_over(context_id, 3, memoryview(command))

    def _answer(self) -> None:
        self._send(self._storing.keep())

    def _send(self, pdu: bytes) -> None:
        """Raises OSError when the peer does not take all of it within its time: nothing could follow."""
        with self.dul.lock:
            if not self.is_established:
                return
            connection = self.dul.socket.socket
            try:
                connection.sendall(pdu)
            except OSError:
                # It does not read: the kernel need not keep the rest for it, and it learns of it at once (RST).
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                raise

    def _send_at_once(self, pdu: bytes) -> bytes:
        """Send what can be sent without waiting; returns the rest. The shared reader's thread calls this."""
        with self.dul.lock:
            if not self.is_established:
                return b""
            try:
                return pdu[self.dul.socket.socket.send(pdu, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                return pdu

    def _hand_over(self, context_id: int, control: int, fragment: memoryview) -> None:
        self._handed_over += len(fragment)
        if self._handed_over > _LONGEST_OTHER_MESSAGE:
            raise BrokenStreamError(f"a message of more than {_LONGEST_OTHER_MESSAGE} bytes that stores nothing")
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes((control,)) + bytes(fragment)]]
        try:
            self.dimse.receive_primitive(primitive)
        except Exception as error:
            # A command set that cannot be decoded, has no Command Field, or an unknown one. What pydicom says of it may
            # hold its bytes, which do not belong into a log.
            raise BrokenStreamError(f"a message cannot be understood ({type(error).__name__})") from error
        self.dul.step()  # it may have found the message invalid

    def _farewell(self, stream: PduStream) -> None:
        """The last PDU is out: let the peer close first, as PS3.8 wants it, but not for ever."""
        if self.dul.state_machine.current_state != "Sta13":
            return
        end = time.monotonic() + _FAREWELL_SECONDS
        try:
            while (left := end - time.monotonic()) > 0 and stream.next(within_seconds=left) is not None:
                pass
        except (OSError, BrokenStreamError):
            return  # closed here and now

    def _close(self) -> None:
        self._storing.close()
        if not self.is_released and not self.is_aborted:
            self.is_aborted = True
        self.is_established = False
        self._kill = True
        connection = self.dul.socket
        if connection is not None and connection.socket is not None:
            raw = connection.socket
            connection._shutdown_socket()
            raw.close()
        evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.requestor.address_info.as_tuple})
