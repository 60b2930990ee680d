"""The same association request again gets the same answer, without being judged again but for who may call."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.receive.negotiation import Negotiations
from tests.mr_slices import mr_slice
from tests.node.receive.raw_peer import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    EXPLICIT,
    IMPLICIT,
    MR,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    associate_request,
    item,
    pdu,
)
from tests.node.test_receive import encoded

JPEG_LS, BIG_ENDIAN, UNKNOWN = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.2", "1.2.3.4.5"
ENHANCED_MR, WAVEFORM = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.9.1.1"

CONTEXTS = st.lists(
    st.tuples(
        st.sampled_from([MR, ENHANCED_MR, WAVEFORM, VERIFICATION, UNKNOWN]),
        st.lists(st.sampled_from([IMPLICIT, EXPLICIT, JPEG_LS, BIG_ENDIAN, UNKNOWN]), min_size=1, max_size=4),
    ).map(lambda context: (context[0], *context[1])),
    min_size=1, max_size=8,
)  # fmt: skip
ROLES = item(0x54, struct.pack(">H", len(MR)) + MR.encode() + b"\x01\x01")
WINDOW = item(0x53, struct.pack(">HH", 5, 5))
EXTENDED = item(0x56, struct.pack(">H", len(MR)) + MR.encode() + bytes(6))


@given(contexts=CONTEXTS, items=st.lists(st.sampled_from([ROLES, WINDOW, EXTENDED]), unique=True).map(b"".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_second_answer_is_the_first_and_pynetdicoms(pair, contexts, items):
    request = associate_request(contexts=tuple(contexts), user_items=items)
    first = answered(pair.fast.port, request)
    assert pair.fast.receiver._lane.negotiations.find(request) is not None
    second = answered(pair.fast.port, request)
    assert first == second == answered(pair.stock.port, request)
    assert first[0] == ASSOCIATE_AC


def answered(port: int, request: bytes) -> tuple[int, bytes]:
    with RawPeer(port) as peer:
        peer.send(request)
        answer = peer.receive()
        if answer[0] == ASSOCIATE_AC:
            peer.send(pdu(RELEASE_RQ, bytes(4)))
            assert peer.receive()[0] == RELEASE_RP, "and the association stands"
        return answer


def test_an_association_of_a_remembered_request_stores(pair):
    for number in (1, 2):
        with RawPeer(pair.fast.port) as peer:
            assert peer.associate(contexts=((MR, EXPLICIT, IMPLICIT),), calling="PACS") == ASSOCIATE_AC
            dataset = mr_slice("t1", number)
            peer.store(encoded(dataset), instance=dataset.SOPInstanceUID)
            assert peer.status() == 0


def test_who_may_call_and_how_many_is_asked_every_time(start_receiver):
    node = start_receiver(maximum_associations_per_peer=2)
    peers = [RawPeer(node.port) for _ in range(3)]
    assert [peer.associate() for peer in peers] == [ASSOCIATE_AC, ASSOCIATE_AC, ASSOCIATE_RJ]
    for peer in peers:
        peer.socket.close()


def test_many_who_come_at_once_with_the_same_request_are_all_answered(start_receiver):
    node = start_receiver(maximum_associations_per_peer=20)
    request = associate_request(contexts=((MR, EXPLICIT),) * 100)
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(lambda _: answered(node.port, request), range(16)))
    assert {kind for kind, _ in answers} == {ASSOCIATE_AC}
    assert len(answers) == 1


def test_only_the_latest_are_remembered():
    negotiations = Negotiations()
    for number in range(33):
        negotiations.remember(bytes([number]), number)  # type: ignore[arg-type]
        assert negotiations.find(bytes([0])) == 0, "asked for each time, it stays"
    assert negotiations.find(bytes([1])) is None
    assert negotiations.find(bytes([32])) == 32


def test_a_request_that_would_take_megabytes_is_not_remembered(pair):
    syntaxes = [f"1.2.3.{number}" for number in range(900)]
    request = associate_request(contexts=((UNKNOWN, *syntaxes),) * 8)
    assert answered(pair.fast.port, request)[0] == ASSOCIATE_AC
    assert pair.fast.receiver._lane.negotiations.find(request) is None


def test_a_request_with_a_passcode_is_not_remembered(start_receiver):
    node = start_receiver()
    identity = item(0x58, b"\x02\x00" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    request = associate_request(user_items=identity)
    for _ in range(2):
        assert answered(node.port, request)[0] == ASSOCIATE_AC
    assert node.receiver._lane.negotiations.find(request) is None
    plain = associate_request()
    answered(node.port, plain)
    assert node.receiver._lane.negotiations.find(plain) is not None
