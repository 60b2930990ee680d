"""C-GET against the simulator's archive, and against peers that do it badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRBigEndian, MRImageStorage, RLELossless
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.association import Peer
from node.associations import Associations
from node.files import DataFolder
from node.get import GetScu
from node.receive import STORAGE_CLASSES
from node.receive.incoming import Incoming
from node.receive.store import Store
from node.sender import NotOfferedError, SendError
from node.source import Part, RetrieveError, StoppedError
from node.tables import Instance, Study
from node.taker import Taker
from simulator.archive.server import Archive
from tests.conftest import free_port
from tests.mr_slices import STUDY, mr_slice
from tests.node.receive.raw_peer import pdu, store_command, value
from tests.waiting import eventually

SLICES = [mr_slice("T1", number) for number in range(1, 9)]
Held = Callable[[], dict[str, Path]]


@pytest.fixture
def taker(store: Store, associations: Associations) -> Iterator[Taker]:
    with Taker(store, associations, "PACS@127.0.0.1") as taker:
        yield taker


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """A PACS that knows nobody."""
    with Archive("PACS", 0, tmp_path / "archive") as archive:
        for dataset in SLICES:
            archive.index.add(_bytes(dataset))
        yield archive


def get_scu(taker: Taker, port: int, total_seconds: float = 20.0, timeout_seconds: float = 5.0) -> GetScu:
    peer = Peer("PACS", "127.0.0.1", port, "NODE", timeout_seconds)
    return GetScu(peer, total_seconds, STORAGE_CLASSES, 65536, taker)


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_a_study_a_series_and_instances(archive, taker, engine, held, associations):
    """Asked for on one association, by a node that the archive does not know and that need not listen."""
    other = mr_slice("FLAIR", 1)
    archive.index.add(_bytes(other))
    with get_scu(taker, archive.port) as scu:
        three = tuple(one.SOPInstanceUID for one in SLICES[:3])
        assert scu.retrieve(Part(STUDY, SLICES[0].SeriesInstanceUID, three)) == ""
        assert set(held()) == set(three)
        assert scu.retrieve(Part(STUDY, SLICES[0].SeriesInstanceUID)) == ""
        assert set(held()) == {one.SOPInstanceUID for one in SLICES}
        assert scu.retrieve(Part(STUDY)) == ""
    kept = held()
    assert {uid: dcmread(path) for uid, path in kept.items()} == {one.SOPInstanceUID: one for one in (*SLICES, other)}
    with Session(engine) as session:
        assert set(session.scalars(select(Instance.sender))) == {"PACS@127.0.0.1"}
        key = session.scalars(select(Study.key)).one()
    assert associations.is_open(key), "nothing may be decided while more is coming"


def test_the_collector_hears_of_the_end(archive, store, engine, associations):
    with Taker(store, associations, "PACS@127.0.0.1") as taker, get_scu(taker, archive.port) as scu:
        scu.retrieve(Part(STUDY))
    with Session(engine) as session:
        key = session.scalars(select(Study.key)).one()
    assert (associations.is_open(key), associations.is_finished(key)) == (False, False), "it may not be all"
    with Taker(store, associations, "PACS@127.0.0.1") as taker, get_scu(taker, archive.port) as scu:
        scu.retrieve(Part(STUDY))
        taker.whole()
    assert (associations.is_open(key), associations.is_finished(key)) == (False, True)


def test_every_instance_comes_in_the_transfer_syntax_that_it_has(archive, taker, held):
    compressed = mr_slice("T1", 20)
    compressed.compress(RLELossless, generate_instance_uid=False)
    swapped = mr_slice("T1", 21)
    swapped.PixelData = swapped.pixel_array.byteswap().tobytes()
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stored = BytesIO()
    dcmwrite(stored, swapped, implicit_vr=False, little_endian=False, enforce_file_format=True)
    for content in (_bytes(compressed), stored.getvalue()):
        archive.index.add(content)
    with get_scu(taker, archive.port) as scu:
        assert scu.retrieve(Part(STUDY)) == ""
    kept = {uid: dcmread(path) for uid, path in held().items()}
    assert len(kept) == len(SLICES) + 2
    assert kept[compressed.SOPInstanceUID].file_meta.TransferSyntaxUID == RLELossless
    assert kept[compressed.SOPInstanceUID].PixelData == compressed.PixelData
    assert kept[swapped.SOPInstanceUID].file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    assert kept[swapped.SOPInstanceUID].PixelData == swapped.PixelData
    assert kept[SLICES[0].SOPInstanceUID] == SLICES[0]


def test_hundreds_of_instances_lose_no_message(archive, taker, held):
    """The thread in which pynetdicom would serve requests may take none of them."""
    for number in range(9, 301):
        archive.index.add(_bytes(mr_slice("T1", number, count=300)))
    with get_scu(taker, archive.port) as scu:
        assert scu.retrieve(Part(STUDY)) == ""
    assert len(held()) == 300


def test_what_cannot_be_stored_is_answered_so_and_told(archive, settings, engine, associations):
    full = Store(engine, DataFolder(settings.node.data), 1 << 60)  # more than any disk has free
    with Taker(full, associations, "PACS") as taker, get_scu(taker, archive.port) as scu:
        assert "8 sub-operations failed" in scu.retrieve(Part(STUDY))
    full.close()
    with Session(engine) as session:
        assert session.scalars(select(Instance)).all() == []


def test_somebody_calls_it_off(archive, taker, held):
    def stopped() -> bool:
        return len(held()) >= 3

    with get_scu(taker, archive.port) as scu, pytest.raises(StoppedError):
        scu.retrieve(Part(STUDY), stopped)
    assert len(held()) == 3, "what has arrived stays, the rest does not come"


def test_what_is_large_goes_to_the_disk_as_it_comes(archive, taker, settings, held):
    frames = 40
    large = mr_slice(
        "large", 1, study="1.2.3.4", SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=frames, Rows=256, Columns=256,
        PixelData=np.random.default_rng(1).bytes(frames * 256 * 256 * 2),
    )  # fmt: skip
    large.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    archive.index.add(_bytes(large))
    there: list[int] = []
    writes = Incoming.write

    def noted(incoming: Incoming, fragment: memoryview) -> None:
        writes(incoming, fragment)
        there.extend(path.stat().st_size for path in (settings.node.data / "incoming").iterdir())

    with get_scu(taker, archive.port) as scu, mock.patch.object(Incoming, "write", noted):
        assert scu.retrieve(Part("1.2.3.4")) == ""
    assert len(set(there)) > 40, "it grew there"
    assert dcmread(held()[large.SOPInstanceUID]).PixelData == large.PixelData
    assert list((settings.node.data / "incoming").iterdir()) == []


def send_large(event: evt.Event, instance: str, *, context_id: int = 0, whole: bool) -> None:
    """2.4 MB that are no data set, past pynetdicom."""
    accepted = next(one.context_id for one in event.assoc.accepted_contexts if one.abstract_syntax == MRImageStorage)
    number = context_id or accepted
    connection = event.assoc.dul.socket.socket
    connection.sendall(pdu(4, value(number, 3, store_command(instance=instance))))
    for _ in range(40):
        connection.sendall(pdu(4, value(number, 0, bytes(60_000))))
    if whole:
        connection.sendall(pdu(4, value(number, 2, b"")))


def test_of_what_ends_in_the_middle_nothing_stays(taker, settings, held):
    def half_an_instance(event: evt.Event) -> Iterator[object]:
        send_large(event, "1.2.3", whole=False)
        eventually(lambda: list((settings.node.data / "incoming").iterdir()), 10)
        event.assoc.abort()
        yield 0

    with (
        get_scp(half_an_instance, MRImageStorage) as port, pytest.raises(RetrieveError),
        get_scu(taker, port) as scu,
    ):  # fmt: skip
        scu.retrieve(Part(STUDY))
    assert list((settings.node.data / "incoming").iterdir()) == []
    assert held() == {}


@pytest.mark.parametrize("wrong", [{"context_id": 255}, {"instance": "../../etc/passwd"}], ids=str)
def test_what_is_large_and_not_in_order_is_answered_and_leaves_nothing(taker, settings, held, wrong):
    answers: list[int] = []

    def disorderly(event: evt.Event) -> Iterator[object]:
        send_large(event, **{"instance": "1.2.3", "whole": True} | wrong)
        _, answer = event.assoc.dimse.get_msg(block=True)
        answers.append(answer.Status)
        yield 1
        yield 0xFF00, SLICES[0]

    with get_scp(disorderly, MRImageStorage) as port, get_scu(taker, port) as scu:
        assert scu.retrieve(Part(STUDY)) == "", "it goes on"
    assert answers == [0xC000]
    assert list((settings.node.data / "incoming").iterdir()) == []
    assert set(held()) == {SLICES[0].SOPInstanceUID}


@contextmanager
def get_scp(
    handler: Callable[[evt.Event], Iterator[object]], *sop_classes: str, swaps_roles: bool = True, gets: bool = True
) -> Iterator[int]:
    """The port of a peer that answers C-GET by ``handler``."""
    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    if gets:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    for sop_class in sop_classes:
        roles = {"scu_role": True, "scp_role": True} if swaps_roles else {}
        ae.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES, **roles)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_GET, handler)])
    try:
        yield port
    finally:
        server.shutdown()


def slowly(event: evt.Event) -> Iterator[object]:
    yield 1000
    for number in range(1000):
        time.sleep(0.1)
        yield 0xFF00, mr_slice("T1", number)


def test_one_that_never_ends_is_ended(taker, held):
    """Each message keeps the DIMSE timeout from striking: the whole C-GET has a limit of its own."""
    with (
        get_scp(slowly, MRImageStorage) as port, get_scu(taker, port, total_seconds=0.5) as scu,
        pytest.raises(RetrieveError, match=r"did not finish the C-GET within 0\.5 s"),
    ):  # fmt: skip
        scu.retrieve(Part(STUDY))
    assert 1 <= len(held()) <= 10


def test_a_peer_that_stops_in_the_middle_of_a_message_is_left(taker):
    gone = threading.Event()

    def half_a_pdu(event: evt.Event) -> Iterator[object]:
        event.assoc.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x10\x00half")
        gone.wait(20)
        yield 0

    before = threading.active_count()
    with get_scp(half_a_pdu, MRImageStorage) as port:
        began = time.monotonic()
        with pytest.raises(RetrieveError), get_scu(taker, port, timeout_seconds=0.5) as scu:
            scu.retrieve(Part(STUDY))
        assert time.monotonic() - began < 10
        gone.set()
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before, "no thread waits for the rest"


def test_a_peer_that_is_silent_is_left(taker):
    def silent(event: evt.Event) -> Iterator[object]:
        time.sleep(2)
        yield 0

    with (
        get_scp(silent, MRImageStorage) as port, get_scu(taker, port, timeout_seconds=0.5) as scu,
        pytest.raises(RetrieveError, match="ended the C-GET without an answer"),
    ):  # fmt: skip
        scu.retrieve(Part(STUDY))


def test_peers_without_it(taker):
    with (
        get_scp(slowly, MRImageStorage, gets=False) as port, get_scu(taker, port) as scu,
        pytest.raises(NotOfferedError, match="offers no C-GET"),
    ):  # fmt: skip
        scu.retrieve(Part(STUDY))
    with (
        get_scp(slowly, MRImageStorage, swaps_roles=False) as port, get_scu(taker, port) as scu,
        pytest.raises(NotOfferedError, match="role selection"),
    ):  # fmt: skip
        scu.retrieve(Part(STUDY))
    with pytest.raises(SendError, match="cannot be reached"), get_scu(taker, free_port()):
        pass


def test_names_from_the_wire_that_are_none(taker, held):
    """What would not fit File Meta Information, or would name another file."""
    for uids in (("../../etc", "1.2", "1.2"), ("1.2", "x" * 65, "1.2"), ("1.2", "1.2", ""), ("1.2", "1.2", "é")):
        assert taker.take(*uids, [b""]).status == 0xC000
    assert held() == {}


def test_more_storage_classes_than_an_association_has_room_for(archive, taker, held):
    """The likelier transfer syntaxes of all of them come first."""
    many = (*STORAGE_CLASSES, *(f"1.2.3.{number}" for number in range(50)))
    peer = Peer("PACS", "127.0.0.1", archive.port, "NODE", 5.0)
    with GetScu(peer, 20.0, many, 65536, taker) as scu:
        assert scu.retrieve(Part(STUDY)) == ""
    assert len(held()) == len(SLICES)
    assert EnhancedMRImageStorage in many
