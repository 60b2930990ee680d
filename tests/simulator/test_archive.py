"""What the archive serves: storage, query, retrieval and storage commitment, to pynetdicom and to DCMTK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, MRImageStorage, RLELossless
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from simulator.archive.send import SendResult
from simulator.archive.server import Archive
from tests.simulator.archive_peers import STUDY, ask_for_commitment, dcmtk, instance, listening, move, store, uids
from tests.waiting import eventually

OTHER_STUDY = "1.2.826.0.1.3680043.10.999.2"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive("ARCHIVE", 0, tmp_path / "archive") as one:
        yield one


@pytest.fixture(scope="module")
def two_studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive that holds one instance of each of two studies; for reading only."""
    with Archive("ARCHIVE", 0, tmp_path_factory.mktemp("two")) as one:
        store(one, instance(0), instance(0, study=OTHER_STUDY, PatientName="Li^Wei", StudyDate="20250607"))
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
    other = instance(0, study=OTHER_STUDY, PatientName="Li^Wei", StudyDate="20250607")
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
def test_matching_of_study_keys(two_studies: Archive, keys: dict[str, object], studies: int) -> None:
    assert len(query(two_studies, "STUDY", **keys)) == studies


def test_a_level_that_study_root_lacks_is_refused(two_studies: Archive) -> None:
    assert query(two_studies, "PATIENT", PatientID="P1") == []


def test_move_to_a_known_peer_and_not_to_an_unknown_one(archive: Archive) -> None:
    store(archive, *[instance(number) for number in range(5)])
    with listening("WORKSTATION") as workstation:
        archive.add_peer(workstation.peer)
        moved = move(archive, "WORKSTATION")
        assert (moved.Status, moved.NumberOfCompletedSuboperations) == (0x0000, 3)
        assert sorted(workstation.received) == sorted(uids(0, 1, 2))
    assert move(archive, "NOBODY").Status == 0xA801


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


def test_commitment_comes_over_a_new_association(archive: Archive) -> None:
    store(archive, instance(0), instance(1))
    with listening("SCANNER") as scanner:
        archive.add_peer(scanner.peer)
        assert ask_for_commitment(archive, [0, 1]) == 0x0000
        assert ask_for_commitment(archive, [1, 2]) == 0x0000
        eventually(lambda: len(scanner.reports) == 2)
    by_event = dict(scanner.reports)
    assert len(by_event[1].ReferencedSOPSequence) == 2
    assert by_event[2].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance(1).SOPInstanceUID
    assert by_event[2].FailedSOPSequence[0].FailureReason == 0x0112


def test_commitment_is_refused_to_strangers(archive: Archive) -> None:
    assert ask_for_commitment(archive, [0]) == 0x0124
