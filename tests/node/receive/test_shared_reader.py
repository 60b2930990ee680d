"""One thread takes the C-STOREs of all: nobody waits for somebody else's silence, and all else is served as before."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from node.header.instance import InstanceHeader
from node.receive import OUT_OF_RESOURCES, SUCCESS, header_scan
from node.receive import shared_reader as shared
from node.receive.pdu_stream import PduStream
from node.tables import Instance
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import (
    ABORT,
    ASSOCIATE_AC,
    CONTEXTS,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    echo_command,
    element,
    pdu,
    store_command,
    value,
)
from tests.node.test_receive import encoded
from tests.waiting import eventually

LARGE = 1200  # rows and columns of 16 bits: more than is held in memory


@pytest.fixture(scope="module")
def node(start_receiver: StartReceiver) -> Listening:
    return start_receiver(network_timeout_seconds=2, calling_ae_titles='["PACS"]')


def store_message(number: int, message_id: int = 1, longest: int = 16000, **attributes: object) -> bytes:
    """A C-STORE request, in as many PDUs as it takes."""
    dataset = mr_slice("t1", number, **attributes)
    content, uid = encoded(dataset), str(dataset.SOPInstanceUID)
    parts = [content[begin : begin + longest] for begin in range(0, len(content), longest)]
    command = pdu(P_DATA, value(1, 3, store_command(instance=uid, message_id=message_id)))
    return command + b"".join(
        pdu(P_DATA, value(1, 2 if begin == len(parts) - 1 else 0, part)) for begin, part in enumerate(parts)
    )


def large_message(number: int, message_id: int = 1) -> bytes:
    return store_message(number, message_id, Rows=LARGE, Columns=LARGE, PixelData=bytes(2 * LARGE * LARGE))


def echo_message(message_id: int) -> bytes:
    return pdu(P_DATA, value(3, 3, echo_command(message_id)))


def kept(node: Listening) -> set[str]:
    with node.reading() as session:
        return set(session.scalars(select(Instance.sop_instance_uid)))


def answered(peer: RawPeer) -> tuple[int, int]:
    """Which message the next answer is for, and its status."""
    answer = peer.answer()
    assert isinstance(answer, dict), answer
    return struct.unpack("<H", answer[0x0120])[0], struct.unpack("<H", answer[0x0900])[0]


def begin(peer: RawPeer) -> None:
    """An association that has stored something, and is read by the shared reader from then on."""
    assert peer.associate(contexts=CONTEXTS) == ASSOCIATE_AC
    peer.send(store_message(99))
    assert peer.status() == SUCCESS


def test_what_comes_in_one_go_is_answered_in_order(node):
    messages = [
        store_message(1, 1), store_message(2, 2), echo_message(3), store_message(3, 4), large_message(4, 5),
        store_message(5, 6), pdu(RELEASE_RQ, bytes(4)),
    ]  # fmt: skip
    with RawPeer(node.port) as peer:
        begin(peer)
        sender = threading.Thread(target=peer.send, args=messages)
        sender.start()
        assert [answered(peer) for _ in range(6)] == [(number, SUCCESS) for number in range(1, 7)]
        assert peer.receive()[0] == RELEASE_RP
        sender.join(10)
    assert {str(mr_slice("t1", number).SOPInstanceUID) for number in range(1, 6)} <= kept(node)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_wherever_the_network_cuts_it_the_same_arrives(node, data):
    numbers = data.draw(st.lists(st.integers(100, 10_000), min_size=1, max_size=3, unique=True))
    longest = data.draw(st.sampled_from([100, 1000, 16000]))
    stream = b"".join(store_message(number, place, longest) for place, number in enumerate(numbers))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    with RawPeer(node.port) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin(peer)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            peer.send(stream[start:end])
            time.sleep(0.001)
        assert [answered(peer) for _ in numbers] == [(place, SUCCESS) for place in range(len(numbers))]
    assert {str(mr_slice("t1", number).SOPInstanceUID) for number in numbers} <= kept(node)


def test_who_stops_in_the_middle_or_does_not_read_delays_nobody(node, monkeypatch):
    carry = shared.SharedReader.carry

    def with_small_buffer(self: shared.SharedReader, passenger: shared.Passenger, stream: PduStream) -> shared.Ride:
        stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the kernel would take 20,000 answers
        return carry(self, passenger, stream)

    monkeypatch.setattr(shared.SharedReader, "carry", with_small_buffer)
    half = store_message(20_000)
    with RawPeer(node.port) as slow, RawPeer(node.port) as deaf, RawPeer(node.port) as quick:
        for peer in (slow, deaf, quick):
            begin(peer)
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.send(half[: len(half) // 2])
        flood = threading.Thread(target=_until_it_breaks, args=(deaf, store_message(20_001)), daemon=True)
        flood.start()
        slowest = 0.0
        end = time.monotonic() + 1.5
        number = 20_100
        while time.monotonic() < end:
            began = time.monotonic()
            quick.send(store_message(number))
            assert quick.status() == SUCCESS
            slowest = max(slowest, time.monotonic() - began)
            number += 1
        assert slowest < 1
        assert slow.receive()[0] == ABORT, "it is given up after its time"
        eventually(lambda: node.receiver.associations == 0)  # so is who does not read
    flood.join(30)


def _until_it_breaks(peer: RawPeer, message: bytes) -> None:
    try:
        while True:
            peer.send(message)
    except OSError:
        return


def test_one_sync_serves_many(node, monkeypatch):
    """Four send while a sync is under way: the next is for all of them."""
    real, syncs, go_on = os.fdatasync, [], threading.Event()

    def slow(descriptor: int) -> None:
        if threading.current_thread().name == "shared reader":
            syncs.append(descriptor)
            assert go_on.wait(10)
        real(descriptor)

    peers = [RawPeer(node.port) for _ in range(5)]
    for peer in peers:
        begin(peer)
    monkeypatch.setattr(os, "fdatasync", slow)
    peers[0].send(store_message(30_000))
    eventually(lambda: len(syncs) == 1)
    for number, peer in enumerate(peers[1:], 1):
        peer.send(store_message(30_000 + number))
    time.sleep(0.2)
    go_on.set()
    assert [peer.status() for peer in peers] == [SUCCESS] * 5
    assert len(syncs) == 2
    for peer in peers:
        peer.socket.close()


def test_while_the_disk_is_slow_nobody_counts_as_silent(node, monkeypatch):
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        if threading.current_thread().name == "shared reader":
            time.sleep(3)  # longer than network_timeout_seconds
        real(descriptor)

    with RawPeer(node.port) as waiting, RawPeer(node.port) as sending:
        for peer in (waiting, sending):
            begin(peer)
        monkeypatch.setattr(os, "fdatasync", slow)
        message = store_message(31_000)
        sending.send(message[: len(message) // 2])
        waiting.send(store_message(31_001))
        assert waiting.status() == SUCCESS
        monkeypatch.setattr(os, "fdatasync", real)
        sending.send(message[len(message) // 2 :])
        assert sending.status() == SUCCESS


def test_a_sync_that_fails_is_success_for_nobody(node, monkeypatch):
    real = os.fdatasync

    def failing(descriptor: int) -> None:
        if threading.current_thread().name == "shared reader":
            raise OSError(5, "Input/output error")
        real(descriptor)

    with RawPeer(node.port) as one, RawPeer(node.port) as other:
        for peer in (one, other):
            begin(peer)
        before = kept(node)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", failing)
            one.send(store_message(40_000))
            other.send(store_message(40_001))
            assert [one.status(), other.status()] == [OUT_OF_RESOURCES] * 2
        assert kept(node) == before
        one.send(store_message(40_000))
        assert one.status() == SUCCESS


def test_a_fault_of_ours_ends_associations_and_not_the_reader(node, monkeypatch, caplog):
    with RawPeer(node.port) as peer, monkeypatch.context() as patched:
        begin(peer)
        patched.setattr(shared.SharedReader, "_acknowledge", lambda self: 1 / 0)
        peer.send(store_message(50_000))
        assert not isinstance(peer.answer(), dict)
    assert "ZeroDivisionError" in caplog.text
    with RawPeer(node.port) as peer:
        begin(peer)
        peer.send(store_message(50_001))
        assert peer.status() == SUCCESS


def test_what_may_take_long_is_not_done_for_one_while_others_wait(node, monkeypatch):
    """A header that pydicom has to read, and a folder that has to be made, are the association's own business."""
    real_scan, real_fsync, where = header_scan.scan, os.fsync, []

    def scan(source: BinaryIO) -> InstanceHeader:
        where.append(("scan", threading.current_thread().name))
        return real_scan(source)

    def fsync(descriptor: int) -> None:
        where.append(("fsync", threading.current_thread().name))
        real_fsync(descriptor)

    with RawPeer(node.port) as peer:
        begin(peer)
        monkeypatch.setattr(header_scan, "scan", scan)
        monkeypatch.setattr(os, "fsync", fsync)
        peer.send(store_message(60_000, SpecificCharacterSet=["", "ISO 2022 IR 87"]))
        assert peer.status() == SUCCESS
        peer.send(store_message(60_001, SeriesInstanceUID="1.2.840.99.60001"))
        assert peer.status() == SUCCESS
    assert {what for what, _ in where} == {"scan", "fsync"}
    assert not any(thread == "shared reader" for _, thread in where)


def test_where_it_cannot_be_shared_each_reads_for_itself(node, monkeypatch):
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    with RawPeer(node.port) as peer:
        monkeypatch.setattr(os, "dup", none_left)
        begin(peer)
        peer.send(store_message(6_000))
        assert peer.status() == SUCCESS


def test_a_long_command_is_refused_as_ever(node):
    long = element(0x1030, b"A" * 70_000)
    with RawPeer(node.port) as peer:
        begin(peer)
        peer.send(pdu(P_DATA, value(1, 3, store_command() + long)))
        assert peer.receive()[0] == ABORT


def test_when_the_node_stops_associations_end_at_once(start_receiver):
    node = start_receiver(calling_ae_titles='["PACS"]')
    with RawPeer(node.port) as peer:
        begin(peer)
        peer.send(store_message(1))
        assert peer.status() == SUCCESS
        began = time.monotonic()
        node.receiver.stop()
        assert peer.receive()[0] == ABORT
        assert time.monotonic() - began < 5
