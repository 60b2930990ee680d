"""Orthanc as a peer, service by service: what it sends, answers and asks, in plain and over TLS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from node.association import Peer
from node.deliver import peer_of
from node.retrieve import DONE
from node.scu import StorageScu, echo
from node.sender import Outgoing, SendError, Whereabouts
from node.settings import DicomWebSource, TlsSettings
from simulator.orthanc import DEPLOYED, OrthancProcess
from tests.conftest import free_port, require, write_config
from tests.mr_slices import STUDY, mr_slice
from tests.node.receive.certificates import Authority
from tests.system.receiving import ReceivingNode
from tests.waiting import eventually

SLICES = [mr_slice(series, number) for series in ("T1", "FLAIR") for number in (1, 2, 3)]


class Pair:
    """The node and Orthanc, which know each other as QUARTERDOSE and PACS."""

    def __init__(self, node: ReceivingNode, orthanc: OrthancProcess) -> None:
        self.node = node
        self.orthanc = orthanc

    def fill(self) -> list[str]:
        """Orthanc's identifiers of the instances that it holds."""
        return [str(self.orthanc.post("/instances", _bytes(one))["ID"]) for one in SLICES]


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def pair(
    folder: Path, configuration: Path, dicomweb: bool = False, **lines: object
) -> tuple[ReceivingNode, OrthancProcess]:
    require("Orthanc")
    node = ReceivingNode(write_config(folder, **lines))
    orthanc = OrthancProcess(
        folder / "orthanc", "PACS", node.pacs.port, free_port(), node.port, stable_seconds=600,
        configuration=configuration, dicomweb=dicomweb,
    )  # fmt: skip
    return node, orthanc


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    node, orthanc = pair(tmp_path_factory.mktemp("plain"), DEPLOYED)
    with node, orthanc:
        yield Pair(node, orthanc)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    authority.sign("node")
    authority.sign("orthanc")
    return folder


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Pair]:
    """Both listen for DICOM over TLS only, and both want to see a certificate."""
    folder = tmp_path_factory.mktemp("secured")
    configuration = folder / "configuration"
    shutil.copytree(DEPLOYED, configuration)
    settings = json.loads((DEPLOYED / "orthanc.json").read_text())
    settings |= {
        "DicomTlsEnabled": True, "DicomTlsCertificate": str(certificates / "orthanc.pem"),
        "DicomTlsPrivateKey": str(certificates / "orthanc.key"),
        "DicomTlsTrustedCertificates": str(certificates / "ca.pem"), "DicomTlsRemoteCertificateRequired": True,
    }  # fmt: skip
    settings["DicomModalities"]["QUARTERDOSE"]["UseDicomTls"] = True
    (configuration / "orthanc.json").write_text(json.dumps(settings))
    files = {"certificate": "node.pem", "key": "node.key", "certificate_authority": "ca.pem"}
    table = ", ".join(f'{key} = "{certificates / name}"' for key, name in files.items())
    lines = {
        "fast_lane": f"true\ntls = {{ {table}, require_client_certificate = true }}",
        "confirm": f'"commitment"\ntls = {{ {table} }}',  # where the answer to its question goes
        "source__retrieve": f'"c-get"\ntls = {{ {table} }}',
    }
    node, orthanc = pair(folder, configuration, **lines)
    with node, orthanc:
        yield Pair(node, orthanc)


def kept(node: ReceivingNode) -> dict[str, Dataset]:
    return {uid: dcmread(path) for uid, path in node.held().items()}


@pytest.mark.parametrize("kind", ["plain", "secured"])
def test_orthanc_echoes_and_stores(kind, request):
    peers: Pair = request.getfixturevalue(kind)
    assert peers.orthanc.post("/modalities/QUARTERDOSE/echo", {}) == {}
    job = peers.orthanc.post("/modalities/QUARTERDOSE/store", {"Resources": peers.fill(), "Synchronous": True})
    assert (job["InstancesCount"], job["FailedInstancesCount"]) == (len(SLICES), 0)
    assert kept(peers.node) == {one.SOPInstanceUID: one for one in SLICES}
    assert peers.node.senders() == {"PACS@127.0.0.1"}


@pytest.mark.parametrize("kind", ["plain", "secured"])
def test_orthanc_asks_for_storage_commitment_and_gets_the_truth(kind, request):
    orthanc = request.getfixturevalue(kind).orthanc
    resources = request.getfixturevalue(kind).fill()
    orthanc.post("/modalities/QUARTERDOSE/store", {"Resources": resources, "Synchronous": True})
    sent = [[str(one.SOPClassUID), str(one.SOPInstanceUID)] for one in SLICES]
    for asked, status in ((sent, "Success"), ([*sent, [sent[0][0], "1.2.3"]], "Failure")):
        where = orthanc.post("/modalities/QUARTERDOSE/storage-commitment", {"DicomInstances": asked})["Path"]
        eventually(lambda where=where: orthanc.get(where)["Status"] != "Pending")
        assert orthanc.get(where)["Status"] == status


@pytest.mark.parametrize("way", ["c-move", "c-get"])
def test_orthanc_is_pulled_from(tmp_path, way):
    node, orthanc = pair(tmp_path, DEPLOYED, source__retrieve=f'"{way}"')
    with node, orthanc:
        Pair(node, orthanc).fill()
        pulled = node.pull(STUDY)
        assert (pulled.state, pulled.arrived, pulled.expected) == (DONE, len(SLICES), len(SLICES))
        assert kept(node) == {one.SOPInstanceUID: one for one in SLICES}
        [found] = node.earlier("P1", "20251231-20260102")
        assert (found.study_instance_uid, found.study_date, found.patient_id) == (STUDY, "20260102", "P1")
        assert found.modalities == ("MR",)
        assert node.earlier("P1", "20250101-20260101") == node.earlier("P2", "20251231-20260102") == []


def test_orthanc_is_pulled_from_over_tls(secured):
    study = "1.2.3.4.5"  # of which the other tests know nothing
    there = [mr_slice("T1", number, study=study) for number in (1, 2, 3)]
    for one in there:
        secured.orthanc.post("/instances", _bytes(one))
    pulled = secured.node.pull(study)
    assert (pulled.state, pulled.arrived, pulled.expected) == (DONE, 3, 3)
    assert {uid: one for uid, one in kept(secured.node).items() if one.StudyInstanceUID == study} == {
        one.SOPInstanceUID: one for one in there
    }


def test_orthanc_is_pulled_from_by_dicomweb(tmp_path):
    node, orthanc = pair(tmp_path, DEPLOYED, dicomweb=True)
    node.fetch_from(DicomWebSource(
        retrieve="dicomweb", name="pacs", url=f"http://127.0.0.1:{orthanc.http_port}/dicom-web", hours=(),
        authorization_file="",
    ))  # fmt: skip
    with node, orthanc:
        Pair(node, orthanc).fill()
        pulled = node.pull(STUDY)
        assert (pulled.state, pulled.arrived, pulled.expected) == (DONE, len(SLICES), len(SLICES))
        assert kept(node) == {one.SOPInstanceUID: one for one in SLICES}
        [found] = node.earlier("P1", "20251231-20260102")
        assert (found.study_instance_uid, found.study_date, found.patient_id) == (STUDY, "20260102", "P1")
        assert found.modalities == ("MR",)
        assert node.earlier("P1", "20250101-20260101") == node.earlier("P2", "20251231-20260102") == []
        assert node.senders() == {"pacs@127.0.0.1"}


def our_call(peers: Pair, certificates: Path) -> Peer:
    tls = TlsSettings(
        certificate_authority=str(certificates / "ca.pem"), certificate=str(certificates / "node.pem"),
        key=str(certificates / "node.key"),
    )  # fmt: skip
    place = peers.node.settings.source[0].model_copy(update={"tls": tls})
    return peer_of(place, "QUARTERDOSE", 10.0)


def test_orthanc_takes_over_tls_what_we_send_and_finds_it(secured, certificates, tmp_path):
    sent = mr_slice("virtual", 1, study="1.2.3.4")
    sent.save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    echo(our_call(secured, certificates))
    with StorageScu(our_call(secured, certificates), [file], find=True) as scu:
        scu.store(file)
        assert scu.has(Whereabouts(sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID))
    assert [one["MainDicomTags"]["SOPInstanceUID"] for one in secured.orthanc.instances("1.2.3.4")] == [
        sent.SOPInstanceUID
    ]
    with pytest.raises(SendError):
        echo(secured.node.pacs)
