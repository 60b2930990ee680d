"""PDUs as they come off one connection, into one fixed buffer (DICOM PS3.8 section 9.3)."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from dataclasses import dataclass

P_DATA_TF = 0x04
_HEADER = struct.Struct(">BxI")
_KNOWN = range(0x01, 0x08)
# An A-ASSOCIATE-RQ with 128 presentation contexts of every transfer syntax stays below this; no other is as long.
_LONGEST_OTHER = 1 << 20
_LONGER, _NEVER = 1.1, float("inf")  # so that the socket's own timeout need not be set for each read


class BrokenStreamError(Exception):
    """What comes is no sequence of PDUs that can be taken; the text says why."""


@dataclass(frozen=True)
class Pdu:
    """One whole PDU: its type and its bytes from the header on, which are valid until the next one is asked for."""

    kind: int
    content: memoryview


class PduStream:
    """Reads a connected socket. ``maximum_pdu``: the longest variable field of a P-DATA-TF PDU, bytes, as announced."""

    def __init__(self, connection: socket.socket, maximum_pdu: int, timeout_seconds: float) -> None:
        self._socket = connection
        self._maximum_pdu = maximum_pdu
        self._timeout = timeout_seconds
        self._buffer = memoryview(bytearray(maximum_pdu + _HEADER.size))
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

    def _need(self, count: int, deadline: float) -> None:
        """Have so many bytes in the buffer from its beginning on."""
        if self._end - self._begin >= count:
            return
        if self._begin + count > len(self._buffer):
            rest = self._end - self._begin
            self._buffer[:rest] = bytes(self._buffer[self._begin : self._end])
            self._begin, self._end = 0, rest
        while self._end - self._begin < count:
            if not self._fill(deadline):
                raise BrokenStreamError("the connection was closed in the middle of a PDU")

    def _fill(self, deadline: float) -> bool:
        got = self._receive(self._buffer[self._end :], deadline)
        self._end += got
        return got > 0

    def _long(self, count: int, deadline: float) -> memoryview:
        content = memoryview(bytearray(count))
        filled = min(count, self._end - self._begin)
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
        if self._quick:
            # A sender with Nagle's algorithm holds back its next small segment until the last one is acknowledged: the
            # kernel's delayed acknowledgement would cost 40 ms each time, and it falls back to delaying by itself.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            return self._socket.recv_into(into)
        except ssl.SSLEOFError:
            return 0
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def _wait_at_most(self, seconds: float) -> None:
        if self._kernel_waits:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        else:
            self._socket.settimeout(seconds)


def _timeval(seconds: float) -> bytes:
    """C's struct timeval; zero would mean for ever."""
    microseconds = max(int(seconds * 1e6), 1)
    return struct.pack("ll", *divmod(microseconds, 1_000_000))
