"""The scanner, the node and the viewer that the tests of the archive use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelMove,
)

from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import require

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


def uids(*numbers: int) -> list[str]:
    """The SOP Instance UIDs of these instances."""
    return [str(instance(number).SOPInstanceUID) for number in numbers]


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
        self.by_association: dict[object, list[str]] = {}
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
        uid = str(event.request.AffectedSOPInstanceUID)
        self.by_association.setdefault(event.assoc, []).append(uid)
        self.received.append(uid)
        return 0x0000

    def _report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        self.reports.append((event.event_type, event.event_information))
        return 0x0000, None


@contextmanager
def listening(ae_title: str = "NODE") -> Iterator[Listener]:
    """A listener until the end of the block."""
    listener = Listener(ae_title)
    try:
        yield listener
    finally:
        listener.server.shutdown()


def move(archive: Archive, destination: str, series: int = 0) -> Dataset:
    """C-MOVE of a series, study root: the final response."""
    entity = AE("VIEWER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ARCHIVE")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "SERIES", STUDY
    identifier.SeriesInstanceUID = f"{STUDY}.{series}"
    *_, (final, _) = association.send_c_move(identifier, destination, StudyRootQueryRetrieveInformationModelMove)
    association.release()
    return final


def ask_for_commitment(archive: Archive, numbers: list[int]) -> int:
    """N-ACTION of storage commitment as SCANNER: the status."""
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


def dcmtk(program: str, *arguments: str) -> str:
    """What the tool prints; it must succeed."""
    result = subprocess.run([require(program), *arguments], capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr
