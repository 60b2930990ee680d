"""The receiver at its door: a real Storage SCU on loopback, the files and the tables behind it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.files import safe_name
from node.receive import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES
from node.receive.journal import Journal, Segment
from node.settings import Settings
from node.tables import Event, Instance, Quarantined, Study
from tests.mr_slices import STUDY, mr_slice
from tests.node.receive.raw_peer import ASSOCIATE_AC, ASSOCIATE_RJ, RawPeer, associate_request
from tests.waiting import eventually


def associate(settings: Settings, calling: str = "PACS", called: str = "QUARTERDOSE", *syntaxes: str) -> Association:
    ae = AE(calling)
    ae.add_requested_context(MRImageStorage, list(syntaxes) or ["1.2.840.10008.1.2.1"])
    ae.add_requested_context(CTImageStorage)
    return ae.associate("127.0.0.1", settings.receiver.port, ae_title=called)


def events(engine: Engine) -> Sequence[Event]:
    with Session(engine) as session:
        return session.scalars(select(Event)).all()


def instances(engine: Engine) -> Sequence[Instance]:
    with Session(engine) as session:
        return session.scalars(select(Instance)).all()


def store_bytes(association: Association, data: bytes, instance: str = "1.2.3") -> int:
    """C-STORE of bytes that no library would write."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, instance
    request.DataSet = BytesIO(data)
    context = next(c for c in association.accepted_contexts if c.abstract_syntax == MRImageStorage)
    # The association's own reader must rest meanwhile, or it takes the answer (as pynetdicom's send_c_store does).
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.01)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(answer.Status)


def test_success_means_on_disk_and_in_the_tables(receiver, settings, engine):
    association = associate(settings)
    sent = mr_slice("t1", 1)
    assert association.send_c_store(sent).Status == 0x0000
    assert receiver.store.settle(20)
    with Session(engine) as session:
        row = session.scalars(select(Instance)).one()
        path = settings.node.data / row.path
        assert row.sender == "PACS@127.0.0.1"
    assert dcmread(path).PixelData == sent.PixelData
    assert STUDY not in row.path
    association.release()


def test_the_same_bytes_again_change_nothing_and_other_bytes_are_a_new_version(receiver, settings, engine):
    association = associate(settings)
    for dataset in (mr_slice("t1", 1), mr_slice("t1", 1), mr_slice("t1", 1, PatientWeight=70)):
        assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    assert receiver.store.settle(20)
    with Session(engine) as session:
        rows = session.scalars(select(Instance).order_by(Instance.version)).all()
        assert [(row.version, row.current) for row in rows] == [(1, False), (2, True)]
        assert all((settings.node.data / row.path).exists() for row in rows)
        assert "new version" in session.scalars(select(Event.what)).all()


def test_the_last_word_of_the_sender_counts_though_it_was_said_before(receiver, settings, engine):
    association = associate(settings)
    first, second = mr_slice("t1", 1), mr_slice("t1", 1, PatientWeight=70)
    for dataset in (first, second, first, first):
        assert association.send_c_store(dataset).Status == 0x0000
        assert receiver.store.settle(20)
    association.release()
    assert receiver.store.settle(20)
    with Session(engine) as session:
        rows = session.scalars(select(Instance).order_by(Instance.version)).all()
        assert [(row.version, row.current) for row in rows] == [(1, True), (2, False)]
        assert rows[0].received > rows[1].received
        told = session.scalars(select(Event.why).where(Event.what == "new version")).all()
        assert [why.partition("came again ")[2] for why in told] == [
            "with other content; version 2", "as version 1, which is current again",
        ]  # fmt: skip


def test_a_compressed_instance_is_stored_as_received(receiver, settings, engine):
    association = associate(settings, "PACS", "QUARTERDOSE", JPEG2000Lossless)
    dataset = mr_slice("t1", 1)
    dataset.compress(JPEG2000Lossless)
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    assert receiver.store.settle(20)
    with Session(engine) as session:
        stored = dcmread(settings.node.data / session.scalars(select(Instance.path)).one())
    assert stored.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert stored.PixelData == dataset.PixelData


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "QUARTERDOSE", 0x03), ("PACS", "SOMEBODY", 0x07)],  # PS3.8 Table 9-21
)
def test_strangers_are_refused_with_the_standards_reason(receiver, settings, engine, calling, called, reason):
    with RawPeer(settings.receiver.port) as peer:  # pynetdicom's requestor may lose an answer under load
        peer.send(associate_request(calling=calling, called=called))
        kind, content = peer.receive()
    assert (kind, content[-1]) == (ASSOCIATE_RJ, reason)
    assert eventually(lambda: events(engine))[0].what == "association refused"


def test_a_sop_class_that_is_not_taken_is_said_in_the_events(receiver, settings, engine):
    association = associate(settings)
    assert [context.abstract_syntax for context in association.rejected_contexts] == [CTImageStorage]
    association.release()
    event = eventually(lambda: events(engine))[0]
    assert "CT Image Storage" in event.what
    assert "receiver.extra_sop_classes" in event.why


def encoded(dataset: Dataset) -> bytes:
    data = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert data is not None
    return data


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"this is no DICOM", CANNOT_UNDERSTAND, ""),
        (encoded(mr_slice("t1", 1))[:-700], CANNOT_UNDERSTAND, "truncated"),
        (encoded(mr_slice("t1", 1))[:300], CANNOT_UNDERSTAND, ""),
        (encoded(mr_slice("t1", 1, StudyInstanceUID="../../etc/passwd")), CANNOT_UNDERSTAND, "UID"),
        (encoded(mr_slice("t1", 1, SOPClassUID=CTImageStorage)), DOES_NOT_MATCH_SOP_CLASS, "announced as"),
    ],
    ids=["not DICOM", "truncated pixels", "truncated header", "path in UID", "another SOP class"],
)
def test_what_cannot_be_understood_is_kept_with_its_reason(receiver, settings, engine, data, status, reason):
    association = associate(settings)
    assert store_bytes(association, data) == status
    assert store_bytes(association, data) == status, "and again, which makes no second copy"
    assert association.send_c_store(mr_slice("t1", 2)).Status == 0x0000, "the node keeps serving"
    association.release()
    assert receiver.store.settle(20)
    with Session(engine) as session:
        row = session.scalars(select(Quarantined)).one()
        assert session.scalars(select(Study.study_instance_uid)).all() == [STUDY]
    assert reason in row.reason
    assert row.reason
    kept = (settings.node.data / row.path).read_bytes()
    assert kept.endswith(data)
    assert row.digest == hashlib.sha256(data).hexdigest()
    inside = {path.parent.name for path in settings.node.data.rglob("*.dcm")}
    assert inside <= {"quarantine"} | {path.name for path in settings.node.data.glob("studies/*/received/*")}


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(receiver, settings, engine, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    association = associate(settings)
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        assert association.send_c_store(mr_slice("t1", 1)).Status == OUT_OF_RESOURCES
    assert list(settings.node.data.rglob("*.dcm")) == []
    assert list((settings.node.data / "incoming").iterdir()) == []
    assert association.send_c_store(mr_slice("t1", 1)).Status == 0x0000, "recovers by itself"
    association.release()


def test_the_same_instance_over_several_associations_at_once_is_stored_once(receiver, settings, engine):
    slices = {n: encode(mr_slice("t1", n), is_implicit_vr=False, is_little_endian=True) for n in range(1, 11)}
    statuses: list[int] = []

    def send() -> None:
        # Not pynetdicom's requestor, which loses an answer now and then under load.
        with RawPeer(settings.receiver.port) as peer:
            assert peer.associate() == ASSOCIATE_AC
            for n, data in slices.items():
                peer.store(data, instance=mr_slice("t1", n).SOPInstanceUID)
                statuses.append(peer.status())

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0x0000] * 40
    assert receiver.store.settle(20)
    with Session(engine) as session:
        assert len(session.scalars(select(Instance)).all()) == 10


def test_a_study_is_open_while_its_association_is_and_finished_by_a_release(receiver, associations, settings):
    key = safe_name(STUDY)
    association = associate(settings)
    association.send_c_store(mr_slice("t1", 1))
    assert associations.is_open(key)
    association.release()
    eventually(lambda: not associations.is_open(key) and associations.is_finished(key))
    association = associate(settings)
    association.send_c_store(mr_slice("t1", 2))
    assert not associations.is_finished(key)
    association.abort()
    eventually(lambda: not associations.is_open(key))
    assert not associations.is_finished(key), "an abort says nothing"


def test_a_connection_that_breaks_while_an_instance_is_stored_leaves_nothing_open(
    receiver, associations, settings, engine, monkeypatch
):
    append = Journal.append

    def slow(journal: Journal, note: bytes, file: bytes, content_start: int, final: Path) -> Segment:
        time.sleep(1.5)
        return append(journal, note, file, content_start, final)

    monkeypatch.setattr(Journal, "append", slow)
    association = associate(settings)
    association.dimse_timeout = 3  # nobody answers
    threading.Timer(0.5, association.abort).start()
    association.send_c_store(mr_slice("t1", 1))
    eventually(lambda: instances(engine))
    assert not associations.is_open(safe_name(STUDY))
