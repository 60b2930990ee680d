"""A stream's connection waits for nobody longer than it may, in either direction."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_looking_gives_what_waiting_gives(data):
    """Without waiting, wherever the network cuts: the same PDUs, and nothing before it is whole."""
    contents = data.draw(st.lists(st.binary(max_size=300), max_size=6))
    pdus = [struct.pack(">BxI", P_DATA_TF, len(content)) + content for content in contents]
    whole = b"".join(pdus)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        with theirs:
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream, found = PduStream(ours, 300, 5.0), []
            for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                theirs.sendall(whole[begin:end])
                while len(b"".join(found)) + stream.begun < end:
                    assert stream.take_what_came()
                    while (pdu := stream.look()) is not None:
                        found.append(bytes(pdu.content))
                        stream.passed(pdu)
            assert found == pdus
            assert not stream.begun
            assert stream.take_what_came(), "nothing has come, and the connection is open"
        assert not stream.take_what_came(), "it was closed"


@pytest.mark.parametrize(
    "head", [b"\5\0\0\0\0\4", b"\4\0\0\0\x40\1", b"\x09\0\0\0\0\0"], ids=["release", "too long", "none"]
)
def test_looking_leaves_what_is_not_for_it(connected, head):
    ours, theirs = connected
    stream = PduStream(ours, 16384, 5.0)
    theirs.sendall(head)
    while not stream.begun:
        assert stream.take_what_came()
    with pytest.raises(BrokenStreamError):
        stream.look()
    assert stream.begun
