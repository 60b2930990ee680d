"""PDUs as they come off one connection, into one fixed buffer (DICOM PS3.8 section 9.3)."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

P_DATA_TF = 0x04
_HEADER = struct.Struct(">BxI")
_KNOWN = range(0x01, 0x08)
# An A-ASSOCIATE-RQ with 128 presentation contexts of every transfer syntax stays below this; no other is as long.
_LONGEST_OTHER = 1 << 20
_LONGEST_BEFORE = 4096
_LONGER, _NEVER = 1.1, float("inf")  # so that the socket's own timeout need not be set for each read


_VALUE: Callable[..., tuple[int, int, int]] = struct.Struct(">IBB").unpack_from


class BrokenStreamError(Exception):
    """What comes is no sequence of PDUs that can be taken; the text says why."""


@dataclass(frozen=True)
class Pdu:
    """One whole PDU: its type and its bytes from the header on, which are valid until the next one is asked for."""

    kind: int
    content: memoryview


def data_values(content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Presentation context ID, message control header and fragment of each value in a P-DATA-TF PDU, given from its
    header on: fragments of a command set or of a data set (PS3.8 section 9.3.5 and annex E).

    Raises BrokenStreamError.
    """
    position, end = _HEADER.size, len(content)
    while position < end:
        if position + 6 > end:
            raise BrokenStreamError("a P-DATA-TF PDU ends in the middle of a presentation data value")
        length, context_id, control = _VALUE(content, position)
        if length < 2 or position + 4 + length > end:
            raise BrokenStreamError(f"a presentation data value claims {length} bytes")
        yield context_id, control, content[position + 6 : position + 4 + length]
        position += 4 + length


class PduStream:
    """Reads a connected socket. ``maximum_pdu``: the longest variable field of a P-DATA-TF PDU, bytes, as announced."""

    def __init__(self, connection: socket.socket, maximum_pdu: int, timeout_seconds: float) -> None:
        self._socket = connection
        self._maximum_pdu = maximum_pdu
        self._timeout = timeout_seconds
        # A command set before the longest PDU need not be moved away first.
        self._buffer = memoryview(bytearray(_LONGEST_BEFORE + maximum_pdu + _HEADER.size))
        self._begin = self._end = 0
        self._shortened = False
        # Python's own timeout means a poll() before each read, and one more turn at the interpreter's lock.
        self._kernel_waits = sys.platform == "linux" and not isinstance(connection, ssl.SSLSocket)
        if self._kernel_waits:
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_seconds))
        self._wait_at_most(timeout_seconds)
        # TLS records end where they like, and the acknowledgements are those of its own socket all the same.
        self._quick = hasattr(socket, "TCP_QUICKACK") and connection.family in (socket.AF_INET, socket.AF_INET6)

    def next(self, within_seconds: float | None = None) -> Pdu | None:
        """The next PDU, or None when the peer has closed the connection between two.

        A PDU may be waited for as long as the timeout, or until ``within_seconds`` from now; once it has begun, all of
        it must come within the timeout. Raises TimeoutError, BrokenStreamError (too long, unknown, cut off) or OSError.
        """
        waited = time.monotonic() + (_LONGER * self._timeout if within_seconds is None else within_seconds)
        if self._begin == self._end:
            self._begin = self._end = 0
            if not self._fill(waited):
                return None
        deadline = min(time.monotonic() + _LONGER * self._timeout, waited if within_seconds else _NEVER)
        self._need(_HEADER.size, deadline)
        kind, length = _HEADER.unpack_from(self._buffer, self._begin)
        if kind not in _KNOWN:
            raise BrokenStreamError(f"PDU type 0x{kind:02X} does not exist")
        if length > (self._maximum_pdu if kind == P_DATA_TF else _LONGEST_OTHER):
            raise BrokenStreamError(f"a PDU of {length} bytes is longer than the {self._maximum_pdu} announced")
        if length > self._maximum_pdu:
            return Pdu(kind, self._long(length + _HEADER.size, deadline))
        self._need(length + _HEADER.size, deadline)
        begin = self._begin
        self._begin += length + _HEADER.size
        return Pdu(kind, self._buffer[begin : self._begin])

    # For a thread that reads many connections and may not wait for any of them:

    @property
    def timeout_seconds(self) -> float:
        """Of silence, and for a PDU to come whole."""
        return self._timeout

    @property
    def descriptor(self) -> int:
        """The connection's."""
        return self._socket.fileno()

    @property
    def can_be_shared(self) -> bool:
        """Whether what comes can be taken without waiting for more. TLS keeps things of its own back."""
        return self._kernel_waits

    @property
    def begun(self) -> int:
        """How many bytes are here of the next PDU, or more."""
        return self._end - self._begin

    def take_what_came(self) -> bool:
        """Read what there is, if there is something. False when the peer has closed the connection, and when there is
        no room left because the next PDU is too long. Raises OSError."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._end == len(self._buffer):
            self._move_to_the_front()
        self._acknowledge_quickly()
        try:
            got = self._socket.recv_into(self._buffer[self._end :], 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self._end += got
        return got > 0

    def look(self) -> Pdu | None:
        """The next PDU if it is P-DATA and all of it is here, still to be ``passed``; None while more has to come.
        Raises BrokenStreamError for whatever ``next`` should rather take."""
        if self.begun < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._buffer, self._begin)
        if kind != P_DATA_TF or length > self._maximum_pdu:
            raise BrokenStreamError("no P-DATA-TF PDU that can be taken")
        end = self._begin + _HEADER.size + length
        return Pdu(kind, self._buffer[self._begin : end]) if end <= self._end else None

    def passed(self, pdu: Pdu) -> None:
        """The PDU that ``look`` gave is done with."""
        self._begin += len(pdu.content)

    def _need(self, count: int, deadline: float) -> None:
        """Have so many bytes in the buffer from its beginning on."""
        if self.begun >= count:
            return
        if self._begin + count > len(self._buffer):
            self._move_to_the_front()
        while self.begun < count:
            if not self._fill(deadline):
                raise BrokenStreamError("the connection was closed in the middle of a PDU")

    def _move_to_the_front(self) -> None:
        rest = self.begun
        self._buffer[:rest] = bytes(self._buffer[self._begin : self._end])
        self._begin, self._end = 0, rest

    def _fill(self, deadline: float) -> bool:
        got = self._receive(self._buffer[self._end :], deadline)
        self._end += got
        return got > 0

    def _long(self, count: int, deadline: float) -> memoryview:
        content = memoryview(bytearray(count))
        filled = min(count, self.begun)
        content[:filled] = self._buffer[self._begin : self._begin + filled]
        self._begin += filled
        while filled < count:
            got = self._receive(content[filled:], deadline)
            if not got:
                raise BrokenStreamError("the connection was closed in the middle of a PDU")
            filled += got
        return content

    def _receive(self, into: memoryview, deadline: float) -> int:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer is too slow")
        if left < self._timeout:
            self._wait_at_most(left)
            self._shortened = True
        elif self._shortened:
            self._wait_at_most(self._timeout)
            self._shortened = False
        self._acknowledge_quickly()
        try:
            return self._socket.recv_into(into)
        except ssl.SSLEOFError:
            return 0
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def _acknowledge_quickly(self) -> None:
        """A sender with Nagle's algorithm holds back its next small segment until the last one is acknowledged: the
        kernel's delayed acknowledgement would cost 40 ms each time, and it falls back to delaying by itself."""
        if self._quick:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _wait_at_most(self, seconds: float) -> None:
        if self._kernel_waits:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        else:
            self._socket.settimeout(seconds)


def _timeval(seconds: float) -> bytes:
    """C's struct timeval; zero would mean for ever."""
    microseconds = max(int(seconds * 1e6), 1)
    return struct.pack("ll", *divmod(microseconds, 1_000_000))
