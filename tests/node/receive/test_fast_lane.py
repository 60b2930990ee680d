"""The fast lane and pynetdicom's own machinery give the same answers and keep the same files."""

from __future__ import annotations

import struct
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from sqlalchemy import select

from node.receive.command import store_request
from node.tables import Instance, Quarantined
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening
from tests.node.receive.raw_peer import (
    ASSOCIATE_AC,
    CONTEXTS,
    EXPLICIT,
    MR,
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


def talk(port: int, *messages: bytes) -> list[object]:
    """Send messages one after the other; the answers, then what a release brings."""
    with RawPeer(port) as peer:
        assert peer.associate(contexts=CONTEXTS) == ASSOCIATE_AC
        answers: list[object] = []
        for message in messages:
            peer.send(message)
            answers.append(_comparable(peer.answer()))
            if not isinstance(answers[-1], dict):
                return ["ended"]
        peer.send(pdu(RELEASE_RQ, bytes(4)))
        return [*answers, peer.receive()[0] == RELEASE_RP]


def _comparable(answer: dict[int, bytes] | int) -> object:
    """pynetdicom pads UIDs, and counts the group's length, as we do; but the order of elements is its own."""
    return dict(answer) if isinstance(answer, dict) else answer


def in_fragments(data: bytes, sizes: list[int], together: bool) -> bytes:
    """A data set as presentation data values of these sizes, in one PDU or in one each."""
    values, position = [], 0
    for size in sizes:
        values.append(value(1, 0, data[position : position + size]))
        position += size
    values.append(value(1, 2, data[position:]))
    return pdu(P_DATA, b"".join(values)) if together else b"".join(pdu(P_DATA, one) for one in values)


def stored(node: Listening) -> dict[str, tuple[str, int]]:
    with node.reading() as session:
        rows = [*session.scalars(select(Instance)), *session.scalars(select(Quarantined))]
        return {row.digest: (str((node.settings.node.data / row.path).stat().st_size), row.size) for row in rows}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_two_give_the_same_answers(pair, data):
    number = data.draw(st.integers(1, 10_000))
    content = bytearray(encoded(mr_slice("t1", number)))
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(2, len(content))))]
    command = store_command(
        sop_class=data.draw(st.sampled_from([MR, MR, MR, "1.2.840.10008.5.1.4.1.1.2"])),
        instance=str(mr_slice("t1", number).SOPInstanceUID),
        message_id=data.draw(st.integers(0, 65535)),
        priority=data.draw(st.sampled_from([0, 1, 2])),
    )
    cut = data.draw(st.integers(0, len(command)))
    split_command = pdu(P_DATA, value(1, 1, command[:cut]) + value(1, 3, command[cut:]))
    sizes = data.draw(st.lists(st.integers(1, 900), max_size=5))
    request = split_command + in_fragments(bytes(content), sizes, data.draw(st.booleans()))
    echo = pdu(P_DATA, value(3, 3, echo_command(data.draw(st.integers(0, 65535)))))
    assert talk(pair.fast.port, request, echo) == talk(pair.stock.port, request, echo)


def test_they_keep_the_same_bytes(pair):
    assert stored(pair.fast) == stored(pair.stock)
    assert stored(pair.fast)


@pytest.mark.parametrize(
    "message",
    [
        pdu(P_DATA, value(3, 3, echo_command(7))),
        pdu(P_DATA, value(5, 3, echo_command(7))),  # a context that was not proposed
        pdu(P_DATA, value(1, 3, b"\0\0\0")),
        pdu(P_DATA, value(1, 3, element(0x0100, struct.pack("<H", 0x7777)))),
        pdu(P_DATA, value(1, 3, store_command(instance="not a uid")) + value(1, 2, b"xx")),
        pdu(P_DATA, b"\0\0"),
        pdu(P_DATA, b"\0\0\0\xffxx"),
        pdu(P_DATA, value(1, 3, store_command(sop_class="1.2.3")) + value(1, 2, b"xx")),
    ],
    ids=["echo", "unknown context", "cut command", "unknown command", "no UID", "cut PDV", "long PDV", "other class"],
)
def test_whatever_else_comes_ends_the_same_way(pair, message):
    assert talk(pair.fast.port, message) == talk(pair.stock.port, message)
    assert talk(pair.fast.port) == [True], "and the next one is served"


def test_an_instance_uid_that_is_no_text_is_not_understood(pair):
    command = store_command(instance="1.2.300").replace(b"1.2.300", b"1.2.3\xde0")
    for node in (pair.fast, pair.stock):
        request = pdu(P_DATA, value(1, 3, command)) + pdu(P_DATA, value(1, 2, encoded(mr_slice("t1", 10_002))))
        [answer, released] = talk(node.port, request)
        assert (answer[0x0900], released) == (b"\x00\xc0", True)


def test_one_thread_serves_an_association(pair):
    with RawPeer(pair.fast.port) as peer:
        before = {thread.name for thread in threading.enumerate()}
        assert peer.associate(contexts=CONTEXTS) == ASSOCIATE_AC
        mine = [thread for thread in threading.enumerate() if thread.name not in before]
        assert sum("AcceptorThread" in thread.name for thread in mine) <= 1
        assert not any(type(thread).__name__ == "DULServiceProvider" for thread in mine)


def test_a_file_says_how_it_came(pair):
    dataset = mr_slice("t1", 10_001)
    uid = str(dataset.SOPInstanceUID)
    for node in (pair.fast, pair.stock):
        request = pdu(P_DATA, value(1, 3, store_command(instance=uid))) + in_fragments(encoded(dataset), [7], True)
        [answer, released] = talk(node.port, request)
        assert (answer[0x0900], released) == (b"\0\0", True)
        with node.reading() as session:
            row = session.scalars(select(Instance).where(Instance.sop_instance_uid == uid)).one()
        kept = dcmread(node.settings.node.data / row.path)
        assert kept.file_meta.MediaStorageSOPInstanceUID == uid
        assert kept.file_meta.TransferSyntaxUID == EXPLICIT
        assert kept == dataset


def test_a_command_that_is_not_plainly_a_store_is_not_taken():
    assert store_request(store_command(), 1) is not None
    assert store_request(echo_command(), 1) is None
    assert store_request(store_command(data_set=0x0101), 1) is None
    assert store_request(store_command(priority=7), 1) is None
    assert store_request(store_command(instance="1.02"), 1) is None
    for cut in range(1, len(store_command())):
        assert store_request(store_command()[:cut], 1) is None
