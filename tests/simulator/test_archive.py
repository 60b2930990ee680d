"""The archive against pynetdicom, DCMTK and itself as a process."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from simulator.archive.faults import Faults
from simulator.archive.send import Peer, SendResult
from simulator.archive.server import Archive

STUDY = "1.2.826.0.1.3680043.10.999.1"


def instance(number: int, study: str = STUDY, **values: object) -> Dataset:
    """A small MR image."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid(entropy_srcs=[study, str(number)])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.{number // 3}"
    dataset.PatientName, dataset.PatientID = "Müller^Jörg", "P1"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20260102", "101500", "A77"
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "MR", "SIEMENS", f"series {number // 3}"
    dataset.InstanceNumber, dataset.SeriesNumber = number, number // 3 + 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 64
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = np.full((64, 64), number, np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def store(archive: Archive, *datasets: Dataset) -> list[int | None]:
    """Send over one association; the status of each, None if there was no answer."""
    entity = AE("SCANNER")
    for sop_class, syntax in {(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID) for dataset in datasets}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    statuses: list[int | None] = []
    for dataset in datasets if association.is_established else ():
        statuses.append(association.send_c_store(dataset).get("Status"))
        if statuses[-1] is None:
            break
    if association.is_established:
        association.release()
    return statuses + [None] * (len(datasets) - len(statuses))


class Listener:
    """An AE that takes everything and remembers it."""

    def __init__(self, ae_title: str) -> None:
        self.received: list[str] = []
        self.reports: list[tuple[int, Dataset]] = []
        entity = AE(ae_title)
        for sop_class in (MRImageStorage, SecondaryCaptureImageStorage):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[
            (evt.EVT_C_STORE, self._store), (evt.EVT_N_EVENT_REPORT, self._report),
        ])
        self.peer = Peer(ae_title, "127.0.0.1", self.server.socket.getsockname()[1])

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        self.reports.append((event.event_type, event.event_information))
        return 0x0000, None


@contextmanager
def listening(ae_title: str = "NODE") -> Iterator[Listener]:
    listener = Listener(ae_title)
    try:
        yield listener
    finally:
        listener.server.shutdown()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for the condition; fail if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("waited in vain")
        time.sleep(0.02)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive("ARCHIVE", 0, tmp_path / "archive") as one:
        yield one


def query(archive: Archive, level: str, **keys: object) -> list[Dataset]:
    """C-FIND, study root."""
    entity = AE("VIEWER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    answers = list(association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind))
    association.release()
    return [found for status, found in answers if status.Status == 0xFF00]


def test_it_answers_an_echo_under_its_own_name_only(archive: Archive) -> None:
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ARCHIVE")
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert entity.associate("127.0.0.1", archive.port, ae_title="SOMEONE").is_rejected


def test_what_is_stored_is_kept_as_sent_and_found_again_after_a_restart(archive: Archive, tmp_path: Path) -> None:
    sent = [instance(number) for number in range(4)]
    assert store(archive, *sent) == [0] * 4
    assert archive.received() == {str(dataset.SOPInstanceUID): 1 for dataset in sent}
    assert store(archive, sent[0]) == [0]
    assert archive.received()[sent[0].SOPInstanceUID] == 2
    assert len(archive.index.all()) == 4
    archive.stop()
    again = Archive("ARCHIVE", 0, tmp_path / "archive")
    kept = again.index.get(sent[2].SOPInstanceUID)
    assert kept is not None
    assert pydicom.dcmread(kept.path) == sent[2]
    assert {one.sop_instance_uid for one in again.index.of_study(STUDY)} == {d.SOPInstanceUID for d in sent}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_are_kept_and_sent_on_compressed(archive: Archive, syntax: str) -> None:
    dataset = instance(1)
    if syntax == RLELossless:
        dataset.compress(syntax)
    else:
        dataset.compress(syntax, encoding_plugin="pylibjpeg")
    assert store(archive, dataset) == [0]
    with listening() as node:
        assert archive.route(STUDY, node.peer) == SendResult((str(dataset.SOPInstanceUID),), {})
        assert node.received == [dataset.SOPInstanceUID]
    assert archive.index.all()[0].transfer_syntax_uid == syntax


def test_a_uid_with_path_characters_stays_inside_the_folder(archive: Archive, tmp_path: Path) -> None:
    evil = instance(1)
    evil.StudyInstanceUID = "../../../../1.2.3"
    assert store(archive, evil) == [0]
    assert [path for path in tmp_path.rglob("*.dcm") if path.parent.parent != tmp_path / "archive"] == []
    assert len(list((tmp_path / "archive").glob("*/*.dcm"))) == 1


def test_an_instance_without_identity_is_not_stored(archive: Archive) -> None:
    nobody = instance(1)
    del nobody.StudyInstanceUID
    assert store(archive, nobody) == [0xC000]
    assert archive.received() == {}


def test_find_on_every_level(archive: Archive) -> None:
    other = instance(0, study="1.2.826.0.1.3680043.10.999.2", PatientName="Li^Wei", StudyDate="20250607")
    store(archive, *[instance(number) for number in range(5)], other)

    (study,) = query(
        archive, "STUDY", PatientName="müller*", StudyInstanceUID="", ModalitiesInStudy="",
        NumberOfStudyRelatedInstances=None, NumberOfStudyRelatedSeries=None, AccessionNumber="",
    )
    assert study.StudyInstanceUID == STUDY
    assert study.PatientName == "Müller^Jörg"
    assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (5, 2)
    assert (study.ModalitiesInStudy, study.AccessionNumber) == ("MR", "A77")

    series = query(archive, "SERIES", StudyInstanceUID=STUDY, SeriesDescription="", NumberOfSeriesRelatedInstances=None)
    counts = {one.SeriesDescription: one.NumberOfSeriesRelatedInstances for one in series}
    assert counts == {"series 0": 3, "series 1": 2}
    images = query(archive, "IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1", SOPInstanceUID="")
    assert {one.SOPInstanceUID for one in images} == {instance(3).SOPInstanceUID, instance(4).SOPInstanceUID}


@pytest.mark.parametrize("keys,studies", [
    ({"PatientID": "P?"}, 2), ({"PatientID": "p?"}, 0), ({"PatientName": "LI^W?I"}, 1), ({"PatientName": "Li"}, 0),
    ({"StudyDate": "20260101-20261231"}, 1), ({"StudyDate": "-20251231"}, 1), ({"StudyDate": "20250607-"}, 2),
    ({"StudyDate": "20260102", "PatientName": "Li*"}, 0), ({"ModalitiesInStudy": "MR"}, 2),
    ({"ModalitiesInStudy": "CT"}, 0), ({"StudyInstanceUID": [STUDY, "1.2.3"]}, 1), ({"PatientID": "*"}, 2),
    ({"PatientID": "P(1"}, 0),
])
def test_matching_of_study_keys(archive: Archive, keys: dict[str, object], studies: int) -> None:
    other = instance(0, study="1.2.826.0.1.3680043.10.999.2", PatientName="Li^Wei", StudyDate="20250607")
    store(archive, instance(0), other)
    assert len(query(archive, "STUDY", **keys)) == studies


def test_a_level_that_study_root_lacks_is_refused(archive: Archive) -> None:
    store(archive, instance(0))
    assert query(archive, "PATIENT", PatientID="P1") == []


def test_move_to_a_known_peer_and_not_to_an_unknown_one(archive: Archive) -> None:
    store(archive, *[instance(number) for number in range(5)])
    entity = AE("VIEWER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "SERIES", STUDY
    identifier.SeriesInstanceUID = f"{STUDY}.0"
    with listening("WORKSTATION") as workstation:
        archive.add_peer(workstation.peer)
        association = entity.associate("127.0.0.1", archive.port, ae_title="ARCHIVE")
        model = StudyRootQueryRetrieveInformationModelMove
        answers = list(association.send_c_move(identifier, "WORKSTATION", model))
        unknown = list(association.send_c_move(identifier, "NOBODY", model))
        association.release()
    assert answers[-1][0].Status == 0x0000
    assert answers[-1][0].NumberOfCompletedSuboperations == 3
    assert set(workstation.received) == {instance(number).SOPInstanceUID for number in range(3)}
    assert unknown[-1][0].Status == 0xA801


def test_get_sends_over_the_same_association(archive: Archive) -> None:
    store(archive, *[instance(number) for number in range(5)])
    received: list[str] = []

    def keep(event: evt.Event) -> int:
        received.append(str(event.dataset.SOPInstanceUID))
        return 0x0000

    entity = AE("VIEWER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_requested_context(MRImageStorage)
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", STUDY
    association = entity.associate(
        "127.0.0.1", archive.port, ae_title="ARCHIVE", ext_neg=[build_role(MRImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    answers = list(association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet))
    association.release()
    assert answers[-1][0].Status == 0x0000
    assert sorted(received) == sorted(str(instance(number).SOPInstanceUID) for number in range(5))


def test_a_quiet_study_is_routed_once_and_late_instances_follow(tmp_path: Path) -> None:
    with listening() as node, Archive("ARCHIVE", 0, tmp_path, route_to=[node.peer], quiet_seconds=0.3) as archive:
        store(archive, instance(0), instance(1))
        until(lambda: len(node.received) == 2)
        store(archive, instance(1), instance(2))
        until(lambda: len(node.received) == 3)
        time.sleep(0.8)
        assert sorted(node.received) == sorted(str(instance(number).SOPInstanceUID) for number in range(3))


def test_the_product_s_own_series_is_not_routed_back(tmp_path: Path) -> None:
    with listening() as node, Archive("ARCHIVE", 0, tmp_path, route_to=[node.peer], quiet_seconds=0.2) as archive:
        store(archive, instance(9, Manufacturer="Quarterdose"), instance(0))
        until(lambda: bool(node.received))
        time.sleep(0.5)
        assert node.received == [instance(0).SOPInstanceUID]


def test_a_destination_that_was_down_gets_it_later(tmp_path: Path) -> None:
    with listening() as first:
        peer = first.peer
    with Archive("ARCHIVE", 0, tmp_path, route_to=[peer], quiet_seconds=0.2) as archive:
        store(archive, instance(0))
        time.sleep(0.6)
        taken: list[str] = []
        entity = AE(peer.ae_title)
        entity.add_supported_context(MRImageStorage)

        def take(event: evt.Event) -> int:
            taken.append(str(event.request.AffectedSOPInstanceUID))
            return 0x0000

        server = entity.start_server(("127.0.0.1", peer.port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
        until(lambda: bool(taken))
        server.shutdown()
        assert taken == [instance(0).SOPInstanceUID]


def test_commitment_comes_over_a_new_association(archive: Archive) -> None:
    store(archive, instance(0), instance(1))
    with listening("SCANNER") as scanner:
        archive.add_peer(scanner.peer)
        assert ask_for_commitment(archive, [0, 1]) == 0x0000
        assert ask_for_commitment(archive, [1, 2]) == 0x0000
        until(lambda: len(scanner.reports) == 2)
    by_event = dict(scanner.reports)
    assert len(by_event[1].ReferencedSOPSequence) == 2
    assert by_event[2].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance(1).SOPInstanceUID
    assert by_event[2].FailedSOPSequence[0].FailureReason == 0x0112


def test_commitment_is_refused_to_strangers(archive: Archive) -> None:
    assert ask_for_commitment(archive, [0]) == 0x0124


def ask_for_commitment(archive: Archive, numbers: list[int]) -> int:
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MRImageStorage, instance(number).SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    entity = AE("SCANNER")
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ARCHIVE")
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    return int(status.Status)


def test_fault_refused_associations(archive: Archive) -> None:
    archive.order(Faults(refuse_associations=2))
    assert [store(archive, instance(0))[0] for _ in range(3)] == [None, None, 0]


def test_fault_out_of_resources(archive: Archive) -> None:
    archive.order(Faults(out_of_resources=2))
    assert store(archive, *[instance(number) for number in range(4)]) == [0xA700, 0xA700, 0, 0]
    assert len(archive.received()) == 2


def test_fault_abort_in_mid_transfer(archive: Archive) -> None:
    archive.order(Faults(abort_after=2))
    sent = [instance(number) for number in range(4)]
    assert store(archive, *sent) == [0, 0, None, None]
    assert store(archive, *sent) == [0] * 4
    assert sorted(archive.received().values()) == [1, 1, 2, 2]


def test_fault_hanging(archive: Archive) -> None:
    archive.order(Faults(hang_seconds=0.5))
    start = time.monotonic()
    assert store(archive, instance(0)) == [0]
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("text", ["QUARTERDOSE", "@127.0.0.1:104", "A@:104", "A@host:http", "SEVENTEEN_LETTERS@h:1"])
def test_a_peer_that_is_not_written_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="AE@host:port"):
        Peer.parse(text)


def test_as_a_process_with_dcmtk_as_scanner(tmp_path: Path) -> None:
    storescu = shutil.which("storescu")
    if storescu is None:
        pytest.fail("storescu is missing: install the Debian package dcmtk")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        instance(number).save_as(source / f"{number}.dcm", enforce_file_format=True)
    with listening() as node:
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator.archive", "--port", "0", "--folder", str(tmp_path / "kept"),
             "--route", f"NODE@127.0.0.1:{node.peer.port}", "--quiet-seconds", "0.3"],
            stdout=subprocess.PIPE, text=True,
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            match = re.fullmatch(r"archive PACS ready on 127\.0\.0\.1:(\d+)\n", ready)
            assert match is not None
            subprocess.run([storescu, "-aec", "PACS", "+sd", "127.0.0.1", match[1], str(source)], check=True)
            until(lambda: len(node.received) == 3)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
    kept = {hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest() for path in (tmp_path / "kept").rglob("*.dcm")}
    assert kept == {hashlib.sha256(instance(number).PixelData).hexdigest() for number in range(3)}


def test_dcmtk_queries_and_retrieves(archive: Archive, tmp_path: Path) -> None:
    store(archive, *[instance(number) for number in range(5)])
    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", "SeriesInstanceUID"]
    found = dcmtk("findscu", "-S", "-aec", "ARCHIVE", *keys, "127.0.0.1", str(archive.port))
    assert f"[{STUDY}.0]" in found
    assert f"[{STUDY}.1]" in found
    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", f"SeriesInstanceUID={STUDY}.1"]
    dcmtk("getscu", "-S", "-aec", "ARCHIVE", "-od", str(tmp_path), *keys, "127.0.0.1", str(archive.port))
    got = [pydicom.dcmread(path) for path in tmp_path.iterdir() if path.is_file()]
    assert {dataset.SOPInstanceUID for dataset in got} == {instance(3).SOPInstanceUID, instance(4).SOPInstanceUID}
    assert all(dataset.PatientName == "Müller^Jörg" for dataset in got)


def dcmtk(program: str, *arguments: str) -> str:
    """What the tool prints; it must succeed."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is missing: install the Debian package dcmtk")
    result = subprocess.run([path, *arguments], capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr
