"""Each way to a destination against a real one: Orthanc's DICOMweb, DCMTK over TLS, a folder, a dead port."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from node.deliver import peer_of
from node.dicomweb import WebServer
from node.outbox import FolderSender
from node.scu import StorageScu
from node.sender import NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts
from node.settings import DimseDestination, TlsSettings
from node.stow import StowSender
from node.wado import QidoSearch
from simulator.orthanc import OrthancProcess
from tests.conftest import free_port, require
from tests.mr_slices import mr_slice
from tests.waiting import eventually

VIRTUAL = mr_slice("virtual", 1)
HERE = Whereabouts(VIRTUAL.StudyInstanceUID, VIRTUAL.SeriesInstanceUID, VIRTUAL.SOPInstanceUID)
ELSEWHERE = Whereabouts(VIRTUAL.StudyInstanceUID, VIRTUAL.SeriesInstanceUID, "1.2.3.4")


@pytest.fixture
def file(tmp_path: Path) -> Outgoing:
    VIRTUAL.save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    return Outgoing.of(tmp_path / "virtual.dcm")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancProcess]:
    require("Orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    with OrthancProcess(folder, "PACS", free_port(), free_port(), free_port(), dicomweb=True) as process:
        yield process


def test_dicomweb_stores_and_finds(orthanc, file):
    with StowSender(WebServer(f"http://127.0.0.1:{orthanc.http_port}/dicom-web", 20.0)) as sender:
        assert not sender.has(HERE)
        sender.store(file)
        assert sender.has(HERE)
        assert not sender.has(ELSEWHERE)
        sender.store(file)  # a second time does no harm
        with pytest.raises(NotOfferedError):
            sender.request_commitment("1.2.3", [file])
    assert [one["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.instances()] == [file.sop_instance_uid]


def test_what_is_no_dicomweb_server_is_refused_with_its_answer(orthanc, file):
    with StowSender(WebServer(f"http://127.0.0.1:{orthanc.http_port}/nothing-here", 20.0)) as sender:
        with pytest.raises(SendError, match="404"):
            sender.store(file)
        with pytest.raises(NotOfferedError):
            sender.has(HERE)


def test_a_server_that_is_down_and_a_secret_that_is_missing(file, tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    with (
        StowSender(WebServer(url, 5.0)) as sender,
        pytest.raises(SendError, match="cannot be reached: Connection refused"),
    ):
        sender.store(file)
    missing = WebServer(url, 5.0, str(tmp_path / "no-secret"))
    with pytest.raises(SendError, match="authorization"), StowSender(missing):
        pass


def test_an_answer_that_drips_ends(file):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nServer: ")
                for _ in range(100):
                    time.sleep(0.1)
                    connection.sendall(b"x")

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        server = WebServer(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.5)
        with StowSender(server) as sender, pytest.raises(SendError, match=r"did not finish within 0\.5"):
            sender.store(file)
        assert time.monotonic() - began < 5


ELSE = [
    b"[]", b"[null]", b"null", b"{", b"[" * 100_000, b'{"00081198": {"vr": "SQ", "Value": [{}]}}',
    b'{"00081199": {"vr": "SQ", "Value": [{}]}}', b'{"00081199": {"vr": "SQ", "Value": [null]}}',
    b'{"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["%s"]}}]}}'
    % VIRTUAL.SOPInstanceUID.encode(),
]  # fmt: skip


@pytest.mark.parametrize("kind", [b"application/dicom+json", b"application/dicom+xml", b""])
@pytest.mark.parametrize("body", ELSE, ids=range(len(ELSE)))
def test_an_answer_that_is_no_dicomweb_is_told(file, kind, body):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + (b"Content-Type: " + kind + b"\r\n" if kind else b"")

    def reply(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(0.2)
                with suppress(TimeoutError):
                    while connection.recv(1 << 16):
                        pass
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=reply, args=(listener,), daemon=True).start()
        with StowSender(WebServer(f"http://127.0.0.1:{listener.getsockname()[1]}", 5.0)) as sender:
            with pytest.raises(SendError):
                sender.store(file)
            with suppress(SendError):  # an empty list says that it is not there
                assert not sender.has(HERE)


@pytest.mark.parametrize(("of_studies", "searches"), [(200, True), (400, False), (404, False), (501, False)])
def test_a_404_says_that_nothing_is_there_or_that_there_is_no_search(of_studies, searches):
    """Which, the server shows by its answer to the search for studies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(of_studies if self.path.startswith("/studies?") else 404)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = WebServer(f"http://127.0.0.1:{server.server_port}", 5.0)
        with StowSender(place) as sender, QidoSearch(place, 5.0) as search:
            if searches:
                assert not sender.has(HERE)
                assert search.instances(HERE.study_instance_uid, HERE.series_instance_uid) == []
            else:
                with pytest.raises(SendError if of_studies == 400 else NotOfferedError):
                    sender.has(HERE)
        server.shutdown()


@contextmanager
def answered(status: int, kind: str, body: str) -> Iterator[StowSender]:
    """The way to a server that takes whatever comes, and answers this."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with StowSender(WebServer(f"http://127.0.0.1:{server.server_port}", 5.0)) as sender:
            yield sender
        server.shutdown()


def told_in_json(sequence: str, **reason: int) -> str:
    item = {"00081155": {"vr": "UI", "Value": [VIRTUAL.SOPInstanceUID]}}
    failure = {"00081197": {"vr": "US", "Value": [reason["reason"]]}} if reason else {}
    return json.dumps({sequence: {"vr": "SQ", "Value": [item | failure]}})


def told_in_xml(sequence: str) -> str:
    def attribute(tag: str, vr: str, value: str) -> str:
        name = keyword_for_tag(tag)
        content = f'<Value number="1">{value}</Value>'
        return f'<DicomAttribute tag="{tag}" vr="{vr}" keyword="{name}">{content}</DicomAttribute>'

    item = attribute("00081155", "UI", VIRTUAL.SOPInstanceUID)
    if sequence == FAILED:
        item += attribute("00081197", "US", str(0xA700))
    return (
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f'<DicomAttribute tag="{sequence}" vr="SQ" keyword="{keyword_for_tag(sequence)}"><Item number="1">{item}</Item>'
        "</DicomAttribute></NativeDicomModel>"
    )


FAILED, REFERENCED = "00081198", "00081199"
STORED, NOT_STORED = told_in_json(REFERENCED), told_in_json(FAILED, reason=0xA700)


@pytest.mark.parametrize(
    "kind",
    ["application/dicom+json", "application/dicom+json; charset=utf-8", "Application/DICOM+JSON;charset=UTF-8",
     "application/json; charset=utf-8"],
)  # fmt: skip
def test_an_answer_is_read_whatever_follows_its_media_type(file, kind):
    with answered(200, kind, STORED) as sender:
        sender.store(file)
    for status in (200, 202, 409):
        with answered(status, kind, NOT_STORED) as sender, pytest.raises(RefusedError, match="failure reason 0xA700"):
            sender.store(file)


@pytest.mark.parametrize("status", [200, 202, 409])
def test_what_the_server_has_already_is_delivered(file, status):
    """As by DIMSE, where 0x0111 is no failure either."""
    with answered(status, "application/dicom+json", told_in_json(FAILED, reason=0x0111)) as sender:
        sender.store(file)


@pytest.mark.parametrize("kind", ["application/dicom+xml", "application/dicom+xml; charset=utf-8"])
def test_an_answer_in_xml_is_read_too(file, kind):
    with answered(200, kind, told_in_xml(REFERENCED)) as sender:
        sender.store(file)
    refusal = pytest.raises(RefusedError, match="failure reason 0xA700")
    with answered(202, kind, told_in_xml(FAILED)) as sender, refusal:
        sender.store(file)


@pytest.mark.parametrize("body", ["<title>Conflict</title>", "{}", "[]", NOT_STORED[:-9], STORED])
def test_an_error_whose_body_says_nothing_of_the_instance_is_told_by_its_status(file, body):
    refusal = pytest.raises(RefusedError, match="answered 409 Conflict")
    with answered(409, "application/dicom+json", body) as sender, refusal:
        sender.store(file)


def test_a_folder_holds_the_very_bytes(file, tmp_path):
    place = tmp_path / "outbox"
    with pytest.raises(SendError, match="is not there"), FolderSender(place):
        pass
    place.mkdir()
    with FolderSender(place) as sender:
        assert not sender.has(HERE)
        sender.store(file)
        sender.store(file)
        assert sender.has(HERE)
    (written,) = place.glob("*.dcm")
    assert written.read_bytes() == file.path.read_bytes()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem signs pacs.pem and node.pem; other.pem is nobody's."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (folder / "address").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("pacs", "node"):
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "address", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tls_port(certificates: Path, tmp_path: Path) -> Iterator[int]:
    """DCMTK's storescp, which demands a certificate signed by ca.pem, writing into ``tmp_path / "received"``."""
    port = free_port()
    (tmp_path / "received").mkdir()
    process = subprocess.Popen(
        [
            require("storescp"), "+tls", certificates / "pacs.key", certificates / "pacs.pem",
            "+cf", certificates / "ca.pem", "-aet", "PACS", "-od", tmp_path / "received", str(port),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: listens(port), 10)
    yield port
    process.terminate()
    process.wait()


def listens(port: int) -> bool:
    with Path("/proc/net/tcp").open() as table:
        return any(f":{port:04X} " in line.split("rem")[0] and " 0A " in line for line in table)


def destination(port: int, authority: Path, own: Path) -> DimseDestination:
    tls = TlsSettings(
        certificate_authority=str(authority), certificate=str(own), key=str(own.with_suffix(".key"))
    )  # fmt: skip
    return DimseDestination(
        kind="dimse", name="pacs", ae_title="PACS", host="127.0.0.1", port=port, confirm="none",
        find_after_crash=False, tls=tls,
    )  # fmt: skip


def test_dicom_over_tls_with_certificates_on_both_sides(certificates, tls_port, file, tmp_path):
    peer = peer_of(destination(tls_port, certificates / "ca.pem", certificates / "node.pem"), "NODE", 10.0)
    with StorageScu(peer, [file]) as scu:
        scu.store(file)
    (received,) = (tmp_path / "received").iterdir()
    assert dcmread(received).SOPInstanceUID == file.sop_instance_uid


@pytest.mark.parametrize(
    ("authority", "own", "why"),
    [
        ("other", "node", "its certificate is not accepted: .*; tls certificate_authority has to hold the authority"),
        ("ca", "other", "it does not accept who we are .*; tls certificate and key have to be such that it knows"),
    ],
)
def test_whoever_is_not_trusted_gets_nothing(certificates, tls_port, file, tmp_path, authority, own, why):
    place = destination(tls_port, certificates / f"{authority}.pem", certificates / f"{own}.pem")
    with pytest.raises(SendError, match=why), StorageScu(peer_of(place, "NODE", 5.0), [file]) as scu:
        scu.store(file)
    assert not list((tmp_path / "received").iterdir())


def test_tls_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(SendError, match="TLS files of pacs"):
        peer_of(destination(1, tmp_path / "no-ca.pem", tmp_path / "no.pem"), "NODE", 5.0)
