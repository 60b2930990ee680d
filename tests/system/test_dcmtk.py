"""DCMTK's programs as peers: they send to the node, query what it does not offer, and are its PACS (dcmqrscp)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from pydicom import dcmread

from node.retrieve import DONE
from node.scu import StorageScu, echo
from node.sender import NotOfferedError, Outgoing, Whereabouts
from tests.conftest import ConfigMaker, free_port, require
from tests.mr_slices import STUDY, mr_slice
from tests.node.receive.certificates import Authority
from tests.system.node_process import NodeProcess
from tests.system.receiving import ReceivingNode
from tests.waiting import eventually

SLICES = [mr_slice(series, number) for series in ("T1", "FLAIR") for number in (1, 2, 3)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"slice{number}.dcm" for number in range(len(SLICES))]
    for path, dataset in zip(paths, SLICES, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


@pytest.fixture
def way() -> str:
    """How the node fetches."""
    return "c-move"


@pytest.fixture
def node(make_config: ConfigMaker, way: str) -> Iterator[ReceivingNode]:
    with ReceivingNode(make_config(source__retrieve=f'"{way}"')) as node:
        yield node


@pytest.fixture
def dcmqrscp(node: ReceivingNode, tmp_path: Path) -> Iterator[None]:
    """DCMTK's archive as our PACS, which knows where we listen."""
    (tmp_path / "archive").mkdir()
    configuration = tmp_path / "dcmqrscp.cfg"
    configuration.write_text(
        "MaxPDUSize = 16384\nMaxAssociations = 8\n"
        f"HostTable BEGIN\nnode = (QUARTERDOSE, 127.0.0.1, {node.port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {tmp_path / 'archive'} RW (100, 1024mb) ANY\nAETable END\n"
    )
    log = (tmp_path / "dcmqrscp.log").open("wb")
    command = [require("dcmqrscp"), "-c", str(configuration), str(node.pacs.port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    eventually(lambda: dcmtk("echoscu", "PACS", node.pacs.port) == 0)
    yield
    process.terminate()
    process.wait()
    log.close()


def dcmtk(program: str, called: str, port: int, *arguments: str, calling: str = "PACS") -> int:
    """Run a program of DCMTK's against a peer; its exit code."""
    options = [argument for argument in arguments if not argument.endswith(".dcm")]
    paths = [argument for argument in arguments if argument.endswith(".dcm")]
    command = [require(program), "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port), *paths]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def test_echoscu_and_storescu(node, files):
    assert dcmtk("echoscu", "QUARTERDOSE", node.port) == 0
    assert dcmtk("echoscu", "QUARTERDOSE", node.port, calling="STRANGER") != 0
    assert dcmtk("storescu", "QUARTERDOSE", node.port, *map(str, files)) == 0
    assert {uid: dcmread(path) for uid, path in node.held().items()} == {one.SOPInstanceUID: one for one in SLICES}


@pytest.mark.parametrize("option", ["-xi", "-xe", "-xb", "-xd", "-xs", "+C", "-R", "--max-send-pdu=4096"])
def test_storescu_in_every_way_it_can_propose(node, files, option):
    """Big endian, deflated, a compressed syntax first, all in one context: the pixels are there in any case."""
    assert dcmtk("storescu", "QUARTERDOSE", node.port, *option.split("="), str(files[0])) == 0
    [(uid, path)] = node.held().items()
    assert uid == SLICES[0].SOPInstanceUID
    kept = dcmread(path)
    assert list(kept.pixel_array.flat) == list(SLICES[0].pixel_array.flat)


def test_storescu_that_aborts_has_what_was_answered(node, files):
    dcmtk("storescu", "QUARTERDOSE", node.port, "--abort", str(files[0]))
    eventually(lambda: list(node.held()) == [SLICES[0].SOPInstanceUID])


def test_what_is_not_offered_is_refused_and_does_no_harm(node, files, tmp_path):
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    assert dcmtk("findscu", "QUARTERDOSE", node.port, "-S", *keys) != 0
    assert dcmtk("getscu", "QUARTERDOSE", node.port, "-S", "-od", str(tmp_path), *keys) != 0
    assert dcmtk("movescu", "QUARTERDOSE", node.port, "-S", "-aem", "PACS", *keys) != 0
    assert dcmtk("storescu", "QUARTERDOSE", node.port, str(files[0])) == 0


def test_dcmqrscp_is_sent_to_and_asked_whether_it_has_it(node, dcmqrscp, files):
    outgoing = [Outgoing.of(path) for path in files]
    echo(node.pacs)
    first = SLICES[0]
    here = Whereabouts(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    with StorageScu(node.pacs, outgoing, find=True, report=lambda _: None) as scu:
        assert not scu.has(here)
        for file in outgoing:
            scu.store(file)
        assert scu.has(here)
        with pytest.raises(NotOfferedError):
            scu.request_commitment("1.2.3", outgoing)


@pytest.mark.parametrize("way", ["c-move", "c-get"])
def test_dcmqrscp_is_pulled_from(node, dcmqrscp, files):
    assert dcmtk("storescu", "PACS", node.pacs.port, *map(str, files)) == 0
    pulled = node.pull(STUDY)
    assert (pulled.state, pulled.arrived, pulled.expected) == (DONE, len(SLICES), len(SLICES))
    [found] = node.earlier("P1", "20251231-20260102")
    assert (found.study_instance_uid, found.study_date, found.patient_id) == (STUDY, "20260102", "P1")
    assert found.modalities in (("MR",), ())
    assert node.earlier("P1", "20250101-20260101") == node.earlier("P2", "20251231-20260102") == []
    assert {uid: dcmread(path) for uid, path in node.held().items()} == {one.SOPInstanceUID: one for one in SLICES}


def test_movescu_has_dcmqrscp_send_to_the_node(node, dcmqrscp, files):
    assert dcmtk("storescu", "PACS", node.pacs.port, *map(str, files)) == 0
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    moved = dcmtk("movescu", "PACS", node.pacs.port, "-S", "-aem", "QUARTERDOSE", *keys, calling="WORKSTATION")
    assert moved == 0
    assert set(node.held()) == {one.SOPInstanceUID for one in SLICES}
    assert node.senders() == {"PACS@127.0.0.1"}


def test_the_node_as_a_process_over_tls_and_its_health(make_config: ConfigMaker, files, tmp_path):
    authority = Authority(tmp_path)
    authority.sign("node")
    authority.sign("pacs")
    names = 'certificate = "node.pem", key = "node.key", certificate_authority = "ca.pem"'
    config = make_config(
        fast_lane=f"true\ntls = {{ {names}, require_client_certificate = true }}", health__port=free_port()
    )
    with NodeProcess(config) as node:
        receiver = node.settings.receiver
        tls = ["+tls", str(tmp_path / "pacs.key"), str(tmp_path / "pacs.pem"), "+cf", str(tmp_path / "ca.pem")]
        assert dcmtk("storescu", "QUARTERDOSE", receiver.port, *tls, *map(str, files)) == 0
        assert dcmtk("storescu", "QUARTERDOSE", receiver.port, *map(str, files)) != 0, "nothing goes in plain"
        assert node.studies()[0]["instances"] == len(SLICES)
        assert "answers" in node.quarterdose("echo", "--to", "node", "--as", "PACS")
        connection = HTTPConnection("127.0.0.1", node.settings.health.port, timeout=10)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        assert (answer.status, told["wrong"], told["studies"]) == (200, [], {"RECEIVING": 1})
