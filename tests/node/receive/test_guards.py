"""What a network does to a listener by mistake or malice: nothing of it holds a slot, a thread or a file for long."""

from __future__ import annotations

import importlib
import os
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pynetdicom import AllStoragePresentationContexts
from sqlalchemy import select, text

from node.receive import OUT_OF_RESOURCES, STORAGE_CLASSES
from node.receive import incoming as coming
from node.tables import Event, Instance
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    EXPLICIT,
    MR,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    associate_request,
    echo_command,
    element,
    item,
    pdu,
    store_command,
    value,
)
from tests.node.test_receive import encoded
from tests.waiting import eventually


@pytest.fixture(scope="module")
def node(start_receiver: StartReceiver) -> Listening:
    """Impatient, and with few slots."""
    return start_receiver(
        network_timeout_seconds=1.5, request_timeout_seconds=1.5, maximum_associations=4,
        maximum_associations_per_peer=3, maximum_pdu=16384, calling_ae_titles='["PACS", "OTHER", "FAR@10.0.0.5"]',
    )  # fmt: skip


_STORAGE_CLASSES = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
recording = importlib.import_module("node.receive.record")  # the package has a function of this name


def threads_of_connections() -> int:
    return sum("AcceptorThread" in thread.name or "process_request" in thread.name for thread in threading.enumerate())


def is_gone(peer: RawPeer) -> bool:
    """The other side has ended the connection, with or without an abort, within the timeouts."""
    peer.socket.settimeout(10)
    kind, _ = peer.receive()
    return kind == 0 or (kind == ABORT and peer.receive()[0] == 0)


def answers_echo(node: Listening) -> bool:
    with RawPeer(node.port) as peer:
        assert peer.associate(contexts=((VERIFICATION, EXPLICIT),)) == ASSOCIATE_AC
        peer.send(pdu(P_DATA, value(1, 3, echo_command())))
        return peer.status() == 0


def data(number: int = 1) -> tuple[bytes, str]:
    dataset = mr_slice("t1", number)
    return encoded(dataset), str(dataset.SOPInstanceUID)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        associate_request()[:40],
        b"\x01\x00\x00\x00",
        pdu(9, b"x"),
        struct.pack(">BxI", 1, 1 << 31) + b"x" * 100,
        pdu(4, b"x" * 20),
        pdu(1, b"\xff" * 100),
    ],
    ids=["probe", "http", "half a request", "half a header", "unknown PDU", "2 GB request", "data first", "garbage"],
)
def test_what_never_becomes_an_association_leaves_nothing(node, sent):
    eventually(lambda: threads_of_connections() == 0)
    with RawPeer(node.port) as peer:
        peer.send(sent)
        assert is_gone(peer)
    eventually(lambda: threads_of_connections() == 0)
    assert answers_echo(node)


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_an_impossible_presentation_context_is_answered_with_an_abort(node, context_id, caplog):
    request = bytearray(associate_request())
    place = request.index(item(0x30, MR.encode())) - 4
    assert request[place] == 1
    request[place] = context_id
    with RawPeer(node.port) as peer:
        peer.send(bytes(request))
        assert peer.receive()[0] == ABORT
    assert [record for record in caplog.records if record.levelname == "ERROR" and record.name.startswith("node")] == []


def test_a_probe_holds_no_slot(node):
    probes = [RawPeer(node.port) for _ in range(8)]
    assert answers_echo(node)
    for probe in probes:
        probe.socket.close()


def test_the_probes_of_a_load_balancer_leave_nothing_and_are_told_nothing(start_receiver, caplog):
    node = start_receiver()
    assert answers_echo(node)
    eventually(lambda: threads_of_connections() == 0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not looked at
    caplog.clear()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", node.port)) as probe:
            probe.shutdown(socket.SHUT_WR)
            probe.settimeout(10)
            assert probe.recv(100) == b""
    eventually(lambda: threads_of_connections() == 0)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert _reasons(node) == []
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_request_byte_by_byte_is_given_up(node):
    with RawPeer(node.port) as peer:
        assert _trickle(peer, associate_request(), 0.3) < 20


def test_a_data_pdu_byte_by_byte_is_given_up(node):
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, value(1, 3, store_command())))
        assert _trickle(peer, pdu(P_DATA, value(1, 2, bytes(4000))), 0.3) < 20
    assert list((node.settings.node.data / "incoming").iterdir()) == []


def _trickle(peer: RawPeer, message: bytes, pause: float) -> int:
    """Bytes that went out before the other side hung up."""
    for count in range(40):
        try:
            peer.socket.sendall(message[count : count + 1])
        except OSError:
            return count
        time.sleep(pause)
    return 40


def test_a_stall_inside_a_pdu_and_a_silent_association_time_out(node):
    for last in (b"", pdu(P_DATA, value(1, 3, store_command()))[:30]):
        with RawPeer(node.port) as peer:
            assert peer.associate() == ASSOCIATE_AC
            peer.send(last)
            begin = time.monotonic()
            assert is_gone(peer)
            assert time.monotonic() - begin < 10
    eventually(lambda: threads_of_connections() == 0)


def _until_given_up() -> Iterator[None]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        yield


def test_the_maximum_pdu_that_was_announced_is_enforced(node):
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, value(1, 3, store_command())))
        with pytest.raises(OSError):
            for _ in _until_given_up():
                peer.send(pdu(P_DATA, value(1, 0, bytes(1 << 20))))
    eventually(lambda: list((node.settings.node.data / "incoming").iterdir()) == [])


def test_a_message_that_stores_nothing_is_not_collected_without_end(node):
    body = element(0x0002, MR.encode() + b"\0") + element(0x0100, struct.pack("<H", 0x20)) + element(
        0x0110, b"\1\0") + element(0x0700, b"\0\0") + element(0x0800, b"\0\0")  # fmt: skip
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, value(1, 3, element(0, struct.pack("<I", len(body))) + body)))
        with pytest.raises(OSError):
            for _ in _until_given_up():
                peer.send(pdu(P_DATA, value(1, 0, bytes(16000))))


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"called": "SOMEBODY"}, (1, 1, 7)),
        ({"calling": "STRANGER"}, (1, 1, 3)),
        ({"calling": "FAR"}, (1, 1, 3)),  # may call, but from another address
    ],
    ids=["called", "calling", "address"],
)
def test_who_may_call_is_checked(node, request_, answer):
    with RawPeer(node.port) as peer:
        peer.send(associate_request(**request_))
        kind, content = peer.receive()
    assert (kind, tuple(content[1:])) == (ASSOCIATE_RJ, answer)


def test_there_are_limits_in_all_and_for_each_peer(node):
    eventually(lambda: threads_of_connections() == 0)
    standing = [RawPeer(node.port) for _ in range(3)]
    assert [peer.associate() for peer in standing] == [ASSOCIATE_AC] * 3
    with RawPeer(node.port) as fourth:
        fourth.send(associate_request())
        kind, content = fourth.receive()
        assert (kind, tuple(content[1:])) == (ASSOCIATE_RJ, (2, 3, 2)), "of this peer: local limit exceeded, transient"
    other = RawPeer(node.port)
    assert other.associate(calling="OTHER") == ASSOCIATE_AC
    with RawPeer(node.port) as fifth:
        fifth.send(associate_request(calling="OTHER"))
        assert fifth.receive()[0] == ASSOCIATE_RJ, "in all"
    standing[0].send(pdu(RELEASE_RQ, bytes(4)))
    assert standing[0].receive()[0] == RELEASE_RP
    with RawPeer(node.port) as again:
        assert again.associate(calling="OTHER") == ASSOCIATE_AC, "a release frees the slot at once"
    for peer in (*standing, other):
        peer.socket.close()
    eventually(lambda: any("maximum_associations_per_peer" in why for why in _reasons(node)))


def _reasons(node: Listening) -> list[str]:
    with node.reading() as session:
        return list(session.scalars(select(Event.why)))


def test_many_connections_at_once_wait_in_the_backlog(node):
    eventually(lambda: threads_of_connections() == 0)
    peers = [socket.create_connection(("127.0.0.1", node.port), timeout=5) for _ in range(60)]
    assert answers_echo(node)
    for peer in peers:
        peer.close()


def test_more_connections_than_there_may_be_are_closed(node):
    eventually(lambda: threads_of_connections() == 0)
    peers = [RawPeer(node.port) for _ in range(80)]
    eventually(lambda: threads_of_connections() <= 68)
    for peer in peers:
        peer.socket.close()
    eventually(lambda: threads_of_connections() == 0)
    assert answers_echo(node)


@pytest.mark.parametrize("held", [1 << 20, 1000], ids=["through the journal", "through a file"])
def test_a_full_disk_is_told_and_recovers_by_itself(start_receiver, monkeypatch, held):
    monkeypatch.setattr(coming, "LARGEST_HELD", held)
    node = start_receiver()
    content, uid = data(1)
    with RawPeer(node.port) as peer:
        peer.associate()
        for name in ("pwritev", "fdatasync") if held > len(content) else ("write", "fsync", "open"):
            real = getattr(os, name)

            def full(*arguments: object, real=real) -> object:
                if threading.current_thread().name.startswith(("AcceptorThread", "shared reader")):
                    raise OSError(28, "No space left on device")
                return real(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(os, name, full)
                peer.store(content, instance=uid)
                answer = peer.answer()
            assert struct.unpack("<H", answer[0x0900])[0] == OUT_OF_RESOURCES
            assert answer[0x0902].strip() == b"No space left on device"
            for folder in ("incoming", "studies"):
                assert [p for p in (node.settings.node.data / folder).rglob("*") if p.is_file()] == []
        peer.store(content, instance=uid)
        assert peer.status() == 0


def takes_one_and_then_no_more(
    node: Listening, peer: RawPeer, first: tuple[bytes, str], second: tuple[bytes, str]
) -> None:
    """The first is durable before it is known that nothing more can be recorded."""
    peer.store(first[0], instance=first[1])
    assert peer.status() == 0
    eventually(lambda: node.receiver.store.problem)
    peer.store(second[0], instance=second[1])
    assert peer.status() == OUT_OF_RESOURCES


def test_a_disk_that_fills_up_behind_the_answer_is_told_to_the_next(start_receiver, monkeypatch):
    """What was acknowledged waits in the journal until its file can be written."""
    node = start_receiver()
    (first, first_uid), (second, second_uid) = data(5), data(51)

    def full(descriptor: int, data: bytes, real: Callable[[int, bytes], int] = os.write) -> int:
        if threading.current_thread().name == "clerk":
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with RawPeer(node.port) as peer:
        peer.associate()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            takes_one_and_then_no_more(node, peer, (first, first_uid), (second, second_uid))
        eventually(lambda: node.receiver.store.problem is None)
    with node.reading() as session:
        [row] = session.scalars(select(Instance))
    assert row.sop_instance_uid == first_uid
    assert (node.settings.node.data / row.path).read_bytes().endswith(first)


def test_below_the_watermark_nothing_is_taken(start_receiver):
    node = start_receiver(minimum_free_gb=1e6)
    content, uid = data(2)
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.store(content, instance=uid)
        assert peer.status() == OUT_OF_RESOURCES
    assert list((node.settings.node.data / "incoming").iterdir()) == []
    assert not (node.settings.node.data / "studies").exists()


def test_a_locked_database_is_told_while_it_lasts(start_receiver, monkeypatch):
    """What the journal took before anybody could know is kept, and gets its row."""
    monkeypatch.setattr(recording, "_LOCKED_MILLISECONDS", 200)
    node = start_receiver()
    (first, first_uid), (second, second_uid) = data(3), data(31)
    with RawPeer(node.port) as peer:
        peer.associate()
        with node.engine.connect() as other:
            other.execute(text("BEGIN IMMEDIATE"))
            peer.store(first, instance=first_uid)
            assert peer.status() == 0
            eventually(lambda: node.receiver.store.problem)
            peer.store(second, instance=second_uid)
            answer = peer.answer()
            assert struct.unpack("<H", answer[0x0900])[0] == OUT_OF_RESOURCES
            assert answer[0x0902].strip() == b"database not available"
        eventually(lambda: node.receiver.store.problem is None)
        peer.store(second, instance=second_uid)
        assert peer.status() == 0
    with node.reading() as session:
        assert set(session.scalars(select(Instance.sop_instance_uid))) == {first_uid, second_uid}


def test_a_lost_database_connection_is_opened_again(start_receiver, monkeypatch):
    node = start_receiver()
    (first, first_uid), (second, second_uid) = data(4), data(41)

    def lost(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with RawPeer(node.port) as peer:
        peer.associate()
        with monkeypatch.context() as patched:
            patched.setattr(recording, "record", lost)
            takes_one_and_then_no_more(node, peer, (first, first_uid), (second, second_uid))
        eventually(lambda: node.receiver.store.problem is None)
        peer.store(second, instance=second_uid)
        assert peer.status() == 0
    with node.reading() as session:
        assert set(session.scalars(select(Instance.sop_instance_uid))) == {first_uid, second_uid}


def test_what_is_proposed_beyond_storing_is_answered(start_receiver):
    node = start_receiver()
    window = item(0x53, struct.pack(">HH", 8, 8))
    extended = item(0x56, struct.pack(">H", len(MR)) + MR.encode() + b"\2\0\0\0\0\0")
    with RawPeer(node.port) as peer:
        peer.send(associate_request(user_items=window + extended))
        kind, content = peer.receive()
        assert kind == ASSOCIATE_AC
        assert item(0x53, struct.pack(">HH", 1, 1)) in content, "one operation at a time"
        assert item(0x56, struct.pack(">H", len(MR)) + MR.encode() + b"\2\0\3\0\0\0") in content, "Level 2, bit by bit"
        sent = [data(n) for n in (1, 2, 3)]
        for content, uid in sent:  # a peer that does not wait for answers all the same
            peer.store(content, instance=uid)
        assert [peer.status() for _ in sent] == [0, 0, 0]


def test_a_caller_that_proposes_everything_is_told_of_once(start_receiver):
    node = start_receiver()
    proposed = tuple((uid, EXPLICIT) for uid in sorted(_STORAGE_CLASSES)[:100] if uid not in STORAGE_CLASSES)
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    for contexts in (proposed, proposed, ((MR, "1.2.3"), *proposed[:3]), (*proposed, (find, EXPLICIT))):
        with RawPeer(node.port) as peer:
            assert peer.associate(contexts=contexts) == ASSOCIATE_AC
            peer.send(pdu(RELEASE_RQ, bytes(4)))
            assert peer.receive()[0] == RELEASE_RP
    with node.reading() as session:
        told = session.execute(select(Event.what, Event.why).where(Event.what.contains("accepted"))).all()
    first, syntax, query = told
    assert first.what.endswith(f" and {len(proposed) - 1} more SOP classes are not accepted")
    assert first.why.endswith(", ... here, add it to receiver.extra_sop_classes")
    assert tuple(syntax) == (
        "MR Image Storage is not accepted", f"none of the transfer syntaxes proposed for {MR} is taken"
    )  # fmt: skip
    assert query.why == f"this node does not offer {find}"


def test_a_stranger_who_tries_for_days_is_one_event(start_receiver, monkeypatch):
    node = start_receiver()

    def refused(calling: str) -> None:
        with RawPeer(node.port) as peer:
            assert peer.associate(calling=calling) == ASSOCIATE_RJ

    for _ in range(20):
        refused("STRANGER")
    refused("ANOTHER")
    eventually(lambda: len(_reasons(node)) == 2)
    monkeypatch.setattr("node.receive.receiver._NOTED_AGAIN_SECONDS", 0.0)
    refused("STRANGER")
    eventually(lambda: len(_reasons(node)) == 3)


def test_writing_breaks_off_without_a_trace_when_the_peer_does(node, monkeypatch):
    monkeypatch.setattr(coming, "LARGEST_HELD", 100)
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, value(1, 3, store_command())), pdu(P_DATA, value(1, 0, bytes(5000))))
        eventually(lambda: list((node.settings.node.data / "incoming").iterdir()))
    eventually(lambda: list((node.settings.node.data / "incoming").iterdir()) == [])
