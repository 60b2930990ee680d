"""What a hospital network sends by mistake: each ends with a clear reason, and the node keeps serving."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.database import open_database
from node.sender import SendError
from node.states import State
from node.tables import Event
from tests.conftest import ConfigMaker, write_config
from tests.mr_slices import mr_slice
from tests.node.test_receive import encoded, store_bytes
from tests.system.node_process import NodeProcess
from tests.waiting import eventually


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    config = write_config(
        tmp_path_factory.mktemp("node"), required='["t1"]', extra_sop_classes=f'["{CTImageStorage}"]'
    )
    with NodeProcess(config) as node:
        yield node


def series(study: str, **elements: object) -> list[Dataset]:
    return [mr_slice("t1", n, study=study, SeriesNumber=1, **elements) for n in range(1, 25)]


def without(keyword: str, *more: str) -> Callable[[str], list[Dataset]]:
    def make(study: str) -> list[Dataset]:
        datasets = series(study)
        for dataset in datasets:
            for name in (keyword, *more):
                del dataset[name]
        return datasets

    return make


def two_patients(study: str) -> list[Dataset]:
    datasets = series(study)
    datasets[3].PatientID = "P2"
    return datasets


def computed_tomography(study: str) -> list[Dataset]:
    datasets = series(study, SOPClassUID=CTImageStorage, Modality="CT")
    for dataset in datasets:
        del dataset.ScanningSequence, dataset.SequenceVariant
    return datasets


@pytest.mark.parametrize(
    ("number", "make", "reason"),
    [
        (1, without("PixelData"), "no instance has Pixel Data"),
        (2, without("ImagePositionPatient", "ImageOrientationPatient"), "geometry is missing"),
        (3, lambda study: series(study, Modality="PT"), "not an MR study: modality PT"),
        (4, computed_tomography, "not an MR study: modality CT"),
        (5, two_patients, "2 different Patient IDs"),
    ],
    ids=["no pixel data", "no geometry", "wrong modality", "a CT", "two patients"],
)
def test_a_study_that_cannot_be_processed_is_failed_with_its_reason(node, tmp_path, number, make, reason):
    uid = f"2.25.{number}"
    files = []
    for dataset in make(uid):
        files.append(tmp_path / f"{dataset.InstanceNumber}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    node.send(files)
    eventually(lambda: node.study(uid)["state"] == State.FAILED, 20, every=0.5)
    assert reason in node.study(uid)["reason"]
    assert re.search(reason[:20], node.quarterdose("studies", "show", uid)), "a person reads it too"
    assert "Doe" not in node.log.read_text(), "no patient's name in the log"
    assert node.answers()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a" * 100, ""),
        (encoded(mr_slice("t1", 1, study="2.25.6"))[:-500], "truncated"),
        (encoded(mr_slice("t1", 1, StudyInstanceUID="../../../etc/passwd")), "UID"),
    ],
    ids=["not DICOM", "truncated", "path in UID"],
)
def test_what_is_no_instance_is_quarantined_with_its_reason(node, data, reason):
    ae = AE("PACS")
    ae.add_requested_context(MRImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", node.peer.port, ae_title=node.peer.ae_title)
    assert store_bytes(association, data) == 0xC000
    association.release()
    shown = node.quarterdose("studies", "quarantine", "--json")
    assert reason in shown
    kept = [path.read_bytes() for path in (node.settings.node.data / "quarantine").iterdir()]
    assert any(content.endswith(data) for content in kept)
    outside = list(node.settings.node.data.parent.rglob("passwd*"))
    assert outside == []
    assert node.answers()


def test_a_truncated_instance_is_shown_with_the_study_it_claims(node, tmp_path):
    uid = "2.25.7"
    good = tmp_path / "good.dcm"
    mr_slice("t1", 1, study=uid).save_as(good, enforce_file_format=True)
    node.send([good])
    ae = AE("PACS")
    ae.add_requested_context(MRImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", node.peer.port, ae_title=node.peer.ae_title)
    store_bytes(association, encoded(mr_slice("t1", 2, study=uid))[:-500])
    association.release()
    [held] = node.study(uid)["quarantined"]
    assert "truncated" in held["reason"]


def test_a_sop_class_that_is_not_stored_is_refused_and_noted(make_config: ConfigMaker, tmp_path: Path):
    with NodeProcess(make_config()) as node:
        path = tmp_path / "ct.dcm"
        computed_tomography("2.25.8")[0].save_as(path, enforce_file_format=True)
        with pytest.raises(SendError):
            node.send([path])
        with Session(open_database(node.settings)) as session:
            event = eventually(lambda: session.scalars(select(Event)).first())
        assert "CT Image Storage is not accepted" in event.what
        assert node.answers()
