"""The Storage SCU against a peer that answers at once: pynetdicom's own requestor loses some of those answers."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from threading import Thread
from typing import cast

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from node.association import MEDIUM, Peer, associate, entity
from node.get import GetScu
from node.query import MoveScu, QueryScu
from node.scu import StorageScu
from node.sender import Outgoing, SendError, Whereabouts
from node.source import Part, RetrieveError
from node.taker import Taker
from tests.conftest import free_port
from tests.mr_slices import mr_slice
from tests.node.delivering import finding
from tests.waiting import eventually


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Answers C-ECHO, and storage commitment with its report on the same association, before the N-ACTION's answer."""
    ae = AE("PEER")
    ae.add_supported_context(Verification)
    ae.add_supported_context(StorageCommitmentPushModel)
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.4")

    def report_first(event: evt.Event) -> tuple[int, None]:
        Thread(target=report, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    def report(association: object, request: Dataset) -> None:
        association.send_n_event_report(  # type: ignore[attr-defined]
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, report_first)])
    yield Peer("PEER", "127.0.0.1", server.socket.getsockname()[1], "NODE", 5.0)
    server.shutdown()


def test_no_answer_is_lost(peer):
    ae = entity(peer)
    ae.add_requested_context(Verification)
    association = associate(ae, peer)
    try:
        # Without a queue for responses alone about one in two hundred goes missing.
        assert [association.send_c_echo().get("Status") for _ in range(600)] == [0x0000] * 600
    finally:
        association.release()


def test_a_report_on_the_same_association_is_heard_and_is_nobodys_answer(peer, tmp_path):
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    for _ in range(20):
        heard: list[str] = []
        with StorageScu(peer, [file], report=lambda report, heard=heard: heard.append(report.TransactionUID)) as scu:
            scu.request_commitment("1.2.3", [file])
            eventually(lambda heard=heard: heard, 5)
        assert heard == ["1.2.3"]


@pytest.fixture
def heard() -> list[tuple[int, Dataset | None]]:
    """The priority of each request, and the identifier where it has one."""
    return []


@pytest.fixture
def archive(heard: list[tuple[int, Dataset | None]]) -> Iterator[Peer]:
    """Takes every C-STORE, finds nothing, has nothing to move or get."""

    def hear(event: evt.Event) -> int:
        heard.append((event.request.Priority, None if event.event is evt.EVT_C_STORE else event.identifier))
        return 0x0000

    def none(event: evt.Event) -> Iterator[object]:
        hear(event)
        yield from (() if event.event is evt.EVT_C_FIND else (None,) if event.event is evt.EVT_C_MOVE else (0,))

    ae = AE("PEER")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    handlers = [
        (evt.EVT_C_STORE, hear), *((one, none) for one in (evt.EVT_C_FIND, evt.EVT_C_MOVE, evt.EVT_C_GET))
    ]  # fmt: skip
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield Peer("PEER", "127.0.0.1", server.socket.getsockname()[1], "NODE", 5.0)
    server.shutdown()


def test_nothing_is_asked_with_low_priority(archive, heard, tmp_path):
    """As pynetdicom would: some archives put it behind everything else."""
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    with StorageScu(archive, [file], find=True) as storage:
        storage.store(file)
        storage.has(Whereabouts("1.2", "1.2.3", file.sop_instance_uid))
    with MoveScu(archive, 5.0, "NODE") as move, contextlib.suppress(RetrieveError):
        move.retrieve(Part("1.2"))
    with GetScu(archive, 5.0, [MRImageStorage], 16384, cast(Taker, None)) as get, contextlib.suppress(RetrieveError):
        get.retrieve(Part("1.2"))
    assert [priority for priority, _ in heard] == [MEDIUM] * 4


@pytest.mark.parametrize("name", ["MUELLER*", "Müller*", "山田^太郎"])
def test_what_is_asked_for_arrives_in_any_script(archive, heard, name):
    keys = Dataset()
    keys.PatientName = name
    with QueryScu(archive, 5.0) as query:
        assert query.studies(keys) == []
    [(_, identifier)] = heard
    assert identifier is not None and str(identifier.PatientName) == name
    assert ("SpecificCharacterSet" in identifier) != name.isascii()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """In explicit VR little endian (PS3.5 section 7.1.2), for a VR with a short length."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


CUT = [(element(8, 0x16, b"UI", b"1.2 ") + element(8, 0x18, b"UI", b"1.2.3 "))[:length] for length in (7, 12)]
UNKNOWN_VR = b"".join(element(group, number, b"ZZ", b"1.2 ") for group, number in ((8, 0x18), (32, 13), (32, 14)))
NO_ITEM = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"abcdefgh"
WRONG_LENGTH = b"".join(
    [element(8, 0x18, b"UI", b"1.2 "), element(32, 13, b"UI", b"1.2 "), element(32, 14, b"UI", b"1.2 "),
     element(40, 16, b"US", b"123")]
)  # fmt: skip
NO_NUMBERS = b"".join(element(group, number, b"US", b"123") for group, number in ((8, 0x18), (32, 13), (32, 14)))
UNREADABLE = [UNKNOWN_VR, NO_ITEM, NO_NUMBERS, *CUT]


@pytest.fixture
def scribbler(request) -> Iterator[Peer]:
    """Answers each C-FIND with one match, whose bytes are the parameter."""
    port = free_port()
    with finding(port, request.param):
        yield Peer("PACS", "127.0.0.1", port, "NODE", 5.0)


QUESTIONS = [lambda scu: scu.studies(Dataset()), lambda scu: scu.series("1.2"), lambda scu: scu.instances("1.2", "1.2")]


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("scribbler", UNREADABLE, indirect=True)
def test_a_match_that_cannot_be_read_is_told_not_left_out(scribbler, ask):
    with QueryScu(scribbler, 5.0) as query, pytest.raises(RetrieveError, match="a match that cannot be read"):
        ask(query)


@pytest.mark.parametrize("scribbler", UNREADABLE, indirect=True)
def test_whether_a_peer_has_an_instance_is_not_read_out_of_what_cannot_be_read(scribbler, tmp_path):
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    with (
        StorageScu(scribbler, [Outgoing.of(tmp_path / "virtual.dcm")], find=True) as storage,
        pytest.raises(SendError, match="a match that cannot be read"),
    ):
        storage.has(Whereabouts("1.2", "1.2.3", "1.2"))


@pytest.mark.parametrize("scribbler", [WRONG_LENGTH], indirect=True)
def test_one_value_that_cannot_be_read_does_not_cost_the_match(scribbler):
    with QueryScu(scribbler, 5.0) as query:
        assert [len(ask(query)) for ask in QUESTIONS] == [1, 1, 1]


def test_an_answer_that_never_ends_is_ended(tmp_path):
    def never(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for number in range(100):
            time.sleep(0.1)
            found = Dataset()
            found.QueryRetrieveLevel, found.SOPInstanceUID = "IMAGE", f"1.2.{number}"
            yield 0xFF00, found

    ae = AE("PEER")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, never)])
    peer = Peer("PEER", "127.0.0.1", server.socket.getsockname()[1], "NODE", 0.5)
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    begin = time.monotonic()
    try:
        with (
            StorageScu(peer, [Outgoing.of(tmp_path / "virtual.dcm")], find=True) as storage,
            pytest.raises(SendError, match=r"did not finish the C-FIND within 0\.5 s"),
        ):
            storage.has(Whereabouts("1.2", "1.2.3", "1.2.3.4"))
        assert time.monotonic() - begin < 5
    finally:
        server.shutdown()
