"""The shipped Orthanc configuration in a real Orthanc: it routes each instance to the node once, and never loops."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, evt

from simulator.orthanc import DEPLOYED, OrthancProcess

STUDY = "1.2.826.0.1.3680043.10.999.42"


def instance(number: int, sop_class: str = MRImageStorage, study: str = STUDY, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(entropy_srcs=[study, sop_class, str(number)])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.{number // 3}.{len(sop_class)}"
    dataset.PatientName, dataset.PatientID, dataset.Modality, dataset.Manufacturer = "Test^Route", "P1", "MR", "SIEMENS"
    dataset.InstanceNumber = number
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = np.full((8, 8), number, np.uint16).tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


class Node:
    """Stands at the node's place: takes what comes and remembers it in order."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[str] = []
        self._entity = AE("QUARTERDOSE")
        self._entity.require_called_aet = True
        for sop_class in (MRImageStorage, EnhancedMRImageStorage, SegmentationStorage):
            self._entity.add_supported_context(sop_class)
        self._server: object = None

    def start(self) -> None:
        self._server = self._entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()  # type: ignore[attr-defined]
            self._server = None

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000


@pytest.fixture
def node() -> Iterator[Node]:
    one = Node(free_port())
    one.start()
    yield one
    one.stop()


@pytest.fixture
def orthanc(tmp_path: Path, node: Node) -> Iterator[OrthancProcess]:
    with OrthancProcess(
        tmp_path / "orthanc", "ORTHANC", free_port(), free_port(), node.port, stable_seconds=1
    ) as process:
        yield process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def storescu(orthanc: OrthancProcess, folder: Path, *datasets: Dataset, calling: str = "SCANNER") -> int:
    """Send with DCMTK; its exit status."""
    program = shutil.which("storescu")
    if program is None:
        pytest.fail("storescu is missing: install the Debian package dcmtk")
    folder.mkdir()
    for dataset in datasets:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    names = ["-aet", calling, "-aec", orthanc.ae_title]
    address = ["127.0.0.1", str(orthanc.dicom_port)]
    return subprocess.run([program, *names, "-R", "+sd", *address, str(folder)], capture_output=True).returncode


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("waited in vain")
        time.sleep(0.05)


def settled(orthanc: OrthancProcess, seconds: float = 3.5) -> None:
    """Let a study become stable again (Orthanc looks every second) and all jobs end."""
    time.sleep(seconds)
    until(lambda: all(job["State"] in ("Success", "Failure") for job in orthanc.get("/jobs?expand")))


def test_a_study_goes_to_the_node_once_and_what_the_node_made_stays(
    orthanc: OrthancProcess, node: Node, tmp_path: Path
) -> None:
    sent = [instance(number) for number in range(7)]
    uids = sorted(str(dataset.SOPInstanceUID) for dataset in sent)
    assert storescu(orthanc, tmp_path / "study", *sent) == 0
    until(lambda: len(node.received) == 7)
    settled(orthanc)
    assert sorted(node.received) == uids

    virtual = instance(50, EnhancedMRImageStorage, Manufacturer="Quarterdose")
    mask = instance(60, SegmentationStorage, Modality="SEG")
    assert storescu(orthanc, tmp_path / "derived", virtual, mask, calling="QUARTERDOSE") == 0
    settled(orthanc)
    assert sorted(node.received) == uids
    assert len(orthanc.instances(STUDY)) == 9

    late = instance(7)
    assert storescu(orthanc, tmp_path / "late", sent[0], late) == 0
    until(lambda: len(node.received) == 8)
    settled(orthanc)
    assert sorted(node.received) == sorted([*uids, str(late.SOPInstanceUID)])


def test_a_node_that_was_down_gets_the_study_with_the_next_one(
    orthanc: OrthancProcess, node: Node, tmp_path: Path
) -> None:
    node.stop()
    first, second = instance(0), instance(0, study=f"{STUDY}.7")
    assert storescu(orthanc, tmp_path / "first", first) == 0
    until(lambda: any(job["State"] == "Failure" for job in orthanc.get("/jobs?expand")))
    node.start()
    assert storescu(orthanc, tmp_path / "second", second) == 0
    until(lambda: len(node.received) == 2)
    settled(orthanc)
    assert sorted(node.received) == sorted([str(first.SOPInstanceUID), str(second.SOPInstanceUID)])


def test_a_failed_job_can_be_sent_again_by_hand(orthanc: OrthancProcess, node: Node, tmp_path: Path) -> None:
    node.stop()
    assert storescu(orthanc, tmp_path / "study", instance(0), instance(1)) == 0
    until(lambda: any(job["State"] == "Failure" for job in orthanc.get("/jobs?expand")))
    node.start()
    (job,) = [job["ID"] for job in orthanc.get("/jobs?expand") if job["State"] == "Failure"]
    orthanc.post(f"/jobs/{job}/resubmit", {})
    until(lambda: len(node.received) == 2)
    assert storescu(orthanc, tmp_path / "late", instance(2)) == 0
    until(lambda: len(node.received) == 3)
    settled(orthanc)
    assert len(node.received) == 3


def test_only_known_application_entities_may_store(orthanc: OrthancProcess, tmp_path: Path) -> None:
    assert storescu(orthanc, tmp_path / "a", instance(0), calling="STRANGER") != 0
    assert storescu(orthanc, tmp_path / "b", instance(0), calling="WORKSTATION") != 0
    assert orthanc.instances() == []


def test_the_rule_and_the_product_agree_on_the_name() -> None:
    from node.derive.series import is_ours

    rule = (DEPLOYED / "autoroute.lua").read_text()
    (product,) = re.findall(r"PRODUCT = '(\w+)'", rule)
    assert is_ours({"Manufacturer": product})


def test_a_missing_orthanc_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match="apt-get install orthanc"):
        OrthancProcess(tmp_path, "ORTHANC", 1, 2, 3).start()


def test_a_port_that_is_taken_is_an_error_that_names_the_log(tmp_path: Path, node: Node) -> None:
    taken = OrthancProcess(tmp_path / "o", "ORTHANC", node.port, free_port(), node.port)
    with pytest.raises(RuntimeError, match=r"did not come up; its log is .*orthanc\.log"):
        taken.start()


def test_a_missing_configuration_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="configuration is not at"):
        OrthancProcess(tmp_path / "o", "ORTHANC", 1, 2, 3, configuration=tmp_path).start()
