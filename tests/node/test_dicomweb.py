"""DICOMweb over HTTPS, both ways: a real Orthanc behind nginx, with everything about certificates right, and wrong.

Debian's Orthanc 1.10.1 ends with SIGSEGV at the first TLS handshake (its CivetWeb 1.15 with OpenSSL 3), so the TLS is
nginx's, which is what Orthanc's own manual recommends.
"""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmwrite
from sqlalchemy.orm import Session

from node.associations import Associations
from node.checks import check_everything
from node.commit import Reports
from node.database import writing
from node.deliver import Deliverer
from node.dicomweb import server_of
from node.engine import WorkStarter
from node.files import DataFolder
from node.ledger import CONFIRMED, QUEUED
from node.receive.store import Store
from node.retrieve import DONE, Retriever, request
from node.retrieve import QUEUED as PULL_QUEUED
from node.sender import Outgoing, SendError, Whereabouts
from node.settings import ConfigurationError, DicomWebDestination, DicomWebSource, Settings, TlsSettings, load_settings
from node.source import RetrieveError
from node.states import State
from node.stow import StowSender
from node.tables import Event, Pull
from node.wado import QidoSearch
from simulator.orthanc import OrthancProcess
from tests.conftest import ConfigMaker, free_port, require
from tests.mr_slices import mr_slice
from tests.nginx import Nginx
from tests.node.delivering import ledger, state, to_deliver
from tests.node.receive.certificates import Authority

PULLED = "1.2.3.7"
SLICES = [mr_slice("T1", number, study=PULLED) for number in (1, 2, 3)]
SECRET = "Basic " + base64.b64encode(b"node:only-for-us").decode()


@dataclass(frozen=True)
class Site:
    """One Orthanc, and the ports by which nginx leads to it; ``certificates`` holds ca.pem, node.pem and other.pem."""

    orthanc: OrthancProcess
    certificates: Path
    secured: int
    mutual: int
    expired: int
    password: int
    redirecting: int


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require("Orthanc")
    folder = tmp_path_factory.mktemp("site")
    authority, other = Authority(folder), Authority(folder, "other_ca")
    server, expired = authority.sign("server"), authority.sign("expired", days=-1)
    authority.sign("node")
    other.sign("other")
    (folder / "users").write_text("node:{PLAIN}only-for-us\n")
    orthanc = OrthancProcess(folder / "orthanc", "PACS", free_port(), free_port(), free_port(), dicomweb=True)
    front = Nginx(folder / "nginx", orthanc.http_port)
    secured = front.listen(certificate=server)
    ports = {
        "mutual": front.listen(
            f"ssl_client_certificate {authority.certificate}; ssl_verify_client on;", certificate=server
        ),
        "expired": front.listen(certificate=expired),
        "password": front.listen(
            f'auth_basic "PACS"; auth_basic_user_file {folder / "users"};', certificate=server
        ),
        "redirecting": front.listen(f"return 301 https://127.0.0.1:{secured}$request_uri;"),
    }
    with orthanc, front:
        yield Site(orthanc, folder, secured, **ports)


def tls(site: Site, authority: str = "ca", ours: str = "") -> TlsSettings:
    shown = {"certificate": f"{site.certificates / ours}.pem", "key": f"{site.certificates / ours}.key"} if ours else {}
    return TlsSettings(
        certificate_authority=str(site.certificates / f"{authority}.pem"), **(shown or {"certificate": "", "key": ""})
    )


def source(url: str, trust: TlsSettings | None, authorization_file: str = "") -> DicomWebSource:
    return DicomWebSource(
        retrieve="dicomweb", name="pacs", url=url, hours=(), authorization_file=authorization_file, tls=trust
    )


def destination(url: str, trust: TlsSettings | None) -> DicomWebDestination:
    return DicomWebDestination(
        kind="dicomweb", name="pacs", url=url, confirm="find", find_after_crash=True, authorization_file="", tls=trust
    )


def url(port: int, scheme: str = "https", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{port}/dicom-web"


@pytest.mark.parametrize(("kind", "ours"), [("secured", ""), ("mutual", "node")])
def test_a_result_is_delivered_and_found_over_https(site, engine, settings, kind, ours):
    place = destination(url(getattr(site, kind)), tls(site, ours=ours))
    settings = settings.model_copy(update={"destination": (place,)})
    study = to_deliver(settings, engine)
    assert Deliverer(settings, engine, Reports(settings, engine)).attempt(study, "pacs", 1) == ""
    assert [row for row, _ in ledger(engine)] == [CONFIRMED] * 3
    assert state(engine) == State.DELIVERED
    assert {one["MainDicomTags"]["SOPInstanceUID"] for one in site.orthanc.instances()} >= {
        mr_slice("virtual", number).SOPInstanceUID for number in (1, 2, 3)
    }


def test_what_is_larger_than_a_chunk_is_stored_over_https(site, tmp_path):
    large = mr_slice("large", 1, study="1.2.3.9", Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    large.save_as(tmp_path / "large.dcm", enforce_file_format=True)
    with StowSender(server_of(destination(url(site.secured), tls(site)), 10.0)) as sender:
        sender.store(Outgoing.of(tmp_path / "large.dcm"))
        assert sender.has(Whereabouts("1.2.3.9", large.SeriesInstanceUID, large.SOPInstanceUID))


def pulled(settings: Settings, engine, place: DicomWebSource, pull: int, number: int) -> Pull:
    settings = settings.model_copy(update={"source": (place,)})
    store = Store(engine, DataFolder(settings.node.data), 0)
    Retriever(settings, engine, store, Associations()).attempt(pull, number)
    store.close()
    with Session(engine) as session:
        return session.get_one(Pull, pull)


def ask(engine) -> int:
    with writing(engine) as session:
        return request(session, WorkStarter(engine), PULLED, "pacs", "a test", "asked for").id


def fill(site: Site) -> None:
    for one in SLICES:
        buffer = BytesIO()
        dcmwrite(buffer, one, enforce_file_format=True)
        site.orthanc.post("/instances", buffer.getvalue())


@pytest.mark.parametrize(("kind", "ours"), [("secured", ""), ("mutual", "node")])
def test_a_study_is_pulled_over_https(site, settings, engine, kind, ours):
    fill(site)
    found = pulled(settings, engine, source(url(getattr(site, kind)), tls(site, ours=ours)), ask(engine), 1)
    assert found.state == DONE, found.reason
    assert found.arrived == found.expected == len(SLICES)


WRONG = {
    "another authority": (lambda site: (url(site.secured), tls(site, "other_ca")), "certificate_authority has to hold"),
    "an authority the system does not know": (lambda site: (url(site.secured), None), "certificate_authority has to"),
    "an expired certificate": (lambda site: (url(site.expired), tls(site)), "certificate has expired; have it renewed"),
    "another host": (lambda site: (url(site.secured, host="127.0.0.2"), tls(site)), "has to name the server as its"),
    "plain to TLS": (lambda site: (url(site.secured, "http"), None), "plain HTTP request was sent to HTTPS port"),
    "TLS to plain": (lambda site: (url(site.redirecting), tls(site)), "does not speak TLS there"),
    "a redirection": (lambda site: (url(site.redirecting, "http"), None), "redirects to https://127.0.0.1"),
    "no certificate of ours": (lambda site: (url(site.mutual), tls(site)), "No required SSL certificate was sent"),
    "a certificate nobody knows": (lambda site: (url(site.mutual), tls(site, ours="other")), "SSL certificate error"),
    "no password": (lambda site: (url(site.password), tls(site)), "authorization_file has to hold what it asks for"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_with_its_remedy_and_tried_again(site, settings, engine, wrong, caplog):
    fill(site)
    where, said = WRONG[wrong]
    pull, study = ask(engine), to_deliver(settings, engine)
    found = pulled(settings, engine, source(*where(site)), pull, 1)
    assert found.state == PULL_QUEUED, "it is tried again"
    assert said in found.reason
    settings = settings.model_copy(update={"destination": (destination(*where(site)),)})
    problem = Deliverer(settings, engine, Reports(settings, engine)).attempt(study, "pacs", 1)
    assert said in problem
    assert state(engine) == State.DELIVERING, "it is tried again"
    assert {row for row, _ in ledger(engine)} <= {QUEUED, "SENDING"}
    with Session(engine) as session:
        assert any(said in event.why and "next in 5 s" in event.why for event in session.query(Event))
    right = destination(url(site.secured), tls(site))
    settings = settings.model_copy(update={"destination": (right,)})
    assert Deliverer(settings, engine, Reports(settings, engine)).attempt(study, "pacs", 2) == ""
    assert state(engine) == State.DELIVERED, "nothing is lost"
    assert pulled(settings, engine, source(url(site.secured), tls(site)), pull, 2).state == DONE


def test_a_secret_goes_to_the_server_and_nowhere_else(site, settings, engine, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    fill(site)
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    pull = ask(engine)
    found = pulled(settings, engine, source(url(site.password), tls(site), str(secret)), pull, 1)
    assert found.state == DONE, found.reason
    secret.write_text(SECRET.replace("Basic ", "Basic x"))
    with (
        QidoSearch(server_of(source(url(site.password), tls(site), str(secret)), 5.0), 5.0) as search,
        pytest.raises(RetrieveError, match="401 Unauthorized"),
    ):
        search.series(PULLED)
    for unusable in (b"Basic x\r\nHost: elsewhere", b"Basic \xe9", b""):
        secret.write_bytes(unusable)
        with (
            pytest.raises(SendError, match="one line of ASCII"),
            QidoSearch(server_of(source(url(site.password), tls(site), str(secret)), 5.0), 5.0),
        ):
            pass
    told = caplog.text + "".join(event.why for event in Session(engine).query(Event))
    assert SECRET.split()[1] not in told
    assert "only-for-us" not in told
    assert "studies" in told, "there was something to be seen"


def test_a_server_that_ends_the_handshake_over_our_certificate(site):
    """Not in HTTP, as nginx does: by an alert of TLS 1.3, which comes when we have sent our request already."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.certificates / "server.pem", site.certificates / "server.key")
    context.load_verify_locations(site.certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            for ours in ("", "other"):
                place = source(url(server.server_port), tls(site, ours=ours))
                with (
                    QidoSearch(server_of(place, 5.0), 5.0) as search,
                    pytest.raises(RetrieveError, match="certificate and key"),
                ):
                    search.series(PULLED)
        finally:
            server.shutdown()
            thread.join()


def test_a_handshake_that_drips_ends(site):
    """The server says nothing, or a byte now and then, where TLS is to begin."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = source(url(listener.getsockname()[1]), tls(site))

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KB begins
                for _ in range(100):
                    time.sleep(0.05)
                    connection.sendall(b"\x02")

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with QidoSearch(server_of(place, 0.5), 0.5) as search, pytest.raises(RetrieveError):
            search.series(PULLED)
        assert time.monotonic() - began < 3


def test_tls_files_that_cannot_be_used_are_named(site, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(SendError, match=r"pacs cannot be used: certificate_authority \(.*gone\.pem\): No such file"):
        server_of(source("https://h/", TlsSettings(certificate_authority="/gone.pem", certificate="", key="")), 1.0)
    with pytest.raises(SendError, match="certificate_authority"):
        empty = TlsSettings(certificate_authority=str(tmp_path / "empty.pem"), certificate="", key="")
        server_of(source("https://h/", empty), 1.0)
    mixed = tls(site).model_copy(update={
        "certificate": str(site.certificates / "node.pem"), "key": str(site.certificates / "other.key"),
    })  # fmt: skip
    with pytest.raises(SendError, match=r"certificate and key \(.*node\.pem, .*other\.key\): KEY_VALUES_MISMATCH"):
        server_of(source("https://h/", mixed), 1.0)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ('url = "https://node:only-for-us@pacs/dicom-web"', "the url holds a user"),
        ('url = "http://pacs/"\ntls = { certificate_authority = "", certificate = "", key = "" }', "is not encrypted"),
        ('url = "https://pacs/"\ncertificate_authority = "/etc/ca.pem"',
         'write tls = { certificate_authority = "/etc/ca.pem", certificate = "", key = "" }'),
        ('url = "https://pacs/"\ncertificate_authority = ""', "leave certificate_authority out"),
        ('url = "ftp://pacs/"', """source "pacs".url = 'ftp://pacs/': should be an address that begins with http"""),
    ],
)
def test_an_address_that_would_be_no_good_is_refused(make_config, place, said):
    config = make_config()
    text = config.read_text()
    before, after = text.split("[[source]]")
    rest = after[after.index("\n[retrieval]\n") :]
    there = f'[[source]]\nretrieve = "dicomweb"\nname = "pacs"\nhours = []\nauthorization_file = "secret"\n{place}\n'
    config.write_text(before + there + rest)
    with pytest.raises(ConfigurationError) as error:
        load_settings(config)
    assert said in str(error.value)
    assert "only-for-us" not in str(error.value)


def test_check_asks_the_sources_too(site, settings, make_config: ConfigMaker):
    right, plain = source(url(site.secured), tls(site)), source(url(site.orthanc.http_port, "http"), None, "/a/secret")
    places = {
        "right": right, "wrong": source(url(site.secured), None),
        "nowhere": source(f"https://127.0.0.1:{site.secured}/nothing", tls(site)), "dimse": settings.source[0],
        "orthanc": settings.source[0].model_copy(update={"port": site.orthanc.dicom_port}), "plain": plain,
    }  # fmt: skip
    named = tuple(place.model_copy(update={"name": name}) for name, place in places.items())
    findings = {
        one.what.removeprefix("source "): one
        for one in check_everything(settings.model_copy(update={"source": named})) if one.what.startswith("source ")
    }  # fmt: skip
    assert {name for name, one in findings.items() if one.ok} == {"right", "orthanc"}
    assert "answers a search" in findings["right"].found
    assert "answers C-ECHO" in findings["orthanc"].found
    assert "certificate_authority" in findings["wrong"].found
    assert "404" in findings["nowhere"].found
    assert "cannot be reached" in findings["dimse"].found
    assert "authorization" in findings["plain"].found
