"""A stream's connection waits for nobody longer than it may, in either direction."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from node.receive.pdu_stream import P_DATA_TF, BrokenStreamError, PduStream

Connected = tuple[socket.socket, socket.socket]


@pytest.fixture
def connected() -> Iterator[Connected]:
    """Two ends of one connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other, _ = listener.accept()
        with other:
            yield one, other


def test_a_peer_that_does_not_read_is_given_up(connected):
    ours, _ = connected
    PduStream(ours, 16384, 0.3)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"temporarily unavailable|timed out"):
        while True:
            ours.send(bytes(1 << 20))
    assert 0.2 < time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [b"", b"\x04\x00", b"\x04\x00\x00\x00\x00\x08\x01"], ids=["none", "a start", "half"])
def test_a_peer_that_stops_is_given_up(connected, sent):
    ours, theirs = connected
    theirs.sendall(sent)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        PduStream(ours, 16384, 0.3).next()
    assert 0.2 < time.monotonic() - began < 5


def test_a_shorter_wait_is_shorter_and_leaves_the_others_as_they_are(connected):
    ours, theirs = connected
    stream = PduStream(ours, 16384, 5.0)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.next(within_seconds=0.2)
    assert time.monotonic() - began < 2
    theirs.sendall(b"\x04\x00\x00\x00\x00\x02ab")
    pdu = stream.next()
    assert pdu is not None
    assert (pdu.kind, bytes(pdu.content)) == (P_DATA_TF, b"\x04\x00\x00\x00\x00\x02ab")
    theirs.close()
    assert stream.next() is None


def test_a_pdu_that_is_cut_off_is_told_from_one_that_is_late(connected):
    ours, theirs = connected
    theirs.sendall(b"\x04\x00\x00\x00\x00\x08abc")
    theirs.close()
    with pytest.raises(BrokenStreamError, match="in the middle of a PDU"):
        PduStream(ours, 16384, 5.0).next()
