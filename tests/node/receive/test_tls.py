"""DICOM over TLS at the listener: who gets in, what comes through, and that nobody who is silent holds up another."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import MRImageStorage, Verification
from sqlalchemy import select

from node.checks import check_receiver
from node.receive import incoming as coming
from node.receive.tls import server_context, valid_until
from node.settings import ConfigurationError, ReceiverTlsSettings, load_settings
from node.tables import Instance
from simulator.archive.send import Responses
from tests.conftest import free_port, require, write_config
from tests.mr_slices import mr_slice
from tests.node.receive.certificates import Authority
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import (
    ASSOCIATE_AC,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    associate_request,
    echo_command,
    pdu,
    store_command,
    value,
)
from tests.node.receive.test_fast_lane import CONTEXTS
from tests.node.receive.test_guards import data, is_gone, threads_of_connections
from tests.node.test_receive import encoded
from tests.waiting import eventually

_PATIENCE = 1.5  # seconds, for a handshake and for silence


@dataclass(frozen=True)
class Certificates:
    """``node`` and ``pacs`` are signed by the authority we trust, ``old`` has expired, ``stranger`` is another's."""

    folder: Path

    def table(self, own: str = "node", *, required: bool = True, key: str = "") -> str:
        """The inline table receiver.tls."""
        names = {"certificate": f"{own}.pem", "key": f"{key or own}.key", "certificate_authority": "ca.pem"}
        files = ", ".join(f'{name} = "{self.folder / file}"' for name, file in names.items())
        return f"{{ {files}, require_client_certificate = {str(required).lower()} }}"

    def settings(self, **changed: object) -> ReceiverTlsSettings:
        files = {"certificate": "node.pem", "key": "node.key", "certificate_authority": "ca.pem"} | changed
        paths = {name: str(self.folder / str(file)) for name, file in files.items()}
        return ReceiverTlsSettings.model_validate({**paths, "require_client_certificate": True})

    def client(self, own: str = "pacs", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """What a caller that shows the certificate ``own`` wraps its socket with."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.minimum_version = context.maximum_version = version
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        if own:
            context.load_cert_chain(self.folder / f"{own}.pem", self.folder / f"{own}.key")
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    for name in ("node", "pacs"):
        authority.sign(name)
    authority.sign("old", days=-1)
    Authority(folder, "other").sign("stranger")
    return Certificates(folder)


def tls_lines(table: str, fast_lane: bool = True) -> dict[str, object]:
    """Lines for a configuration with TLS, which stands commented out behind fast_lane."""
    return {"fast_lane": f"{str(fast_lane).lower()}\ntls = {table}"}


def start(start_receiver: StartReceiver, table: str, fast_lane: bool = True) -> Listening:
    return start_receiver(
        network_timeout_seconds=_PATIENCE, request_timeout_seconds=_PATIENCE, maximum_associations=4,
        **tls_lines(table, fast_lane),
    )  # fmt: skip


@pytest.fixture(scope="module")
def node(start_receiver: StartReceiver, certificates: Certificates) -> Listening:
    return start(start_receiver, certificates.table())


@pytest.fixture(scope="module")
def stock(start_receiver: StartReceiver, certificates: Certificates) -> Listening:
    return start(start_receiver, certificates.table(), fast_lane=False)


def associate(node: Listening, tls: ssl.SSLContext) -> Association:
    ae = AE("PACS")
    ae.add_requested_context(MRImageStorage, ["1.2.840.10008.1.2.1"])
    ae.add_requested_context(Verification)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
    association = ae.associate("127.0.0.1", node.port, ae_title="QUARTERDOSE", tls_args=(tls, "127.0.0.1"))
    association.dimse.msg_queue = Responses()  # or pynetdicom loses one now and then
    return association


def kept(node: Listening, uid: str) -> bytes:
    """The data set as it lies on the disk, behind its File Meta Information (PS3.10 section 7.1)."""
    with node.reading() as session:
        row = session.scalars(select(Instance).where(Instance.sop_instance_uid == uid, Instance.current)).one()
    content = (node.settings.node.data / row.path).read_bytes()
    return content[144 + struct.unpack_from("<I", content, 140)[0] :]


def answers_echo(node: Listening, tls: ssl.SSLContext) -> bool:
    with RawPeer(node.port, tls=tls) as peer:
        assert peer.associate(contexts=((VERIFICATION, "1.2.840.10008.1.2.1"),)) == ASSOCIATE_AC
        peer.send(pdu(P_DATA, value(1, 3, echo_command())))
        return peer.status() == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("lane", ["node", "stock"])
def test_pynetdicom_stores_over_tls(lane, version, certificates, request):
    node = request.getfixturevalue(lane)
    association = associate(node, certificates.client(version=version))
    assert association.is_established
    sent = mr_slice("tls", 1 if version == ssl.TLSVersion.TLSv1_2 else 2)
    assert association.send_c_store(sent).Status == 0x0000
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released
    assert kept(node, str(sent.SOPInstanceUID)) == encoded(sent)
    eventually(lambda: threads_of_connections() == 0)


@pytest.mark.parametrize("lane", ["node", "stock"])
def test_dcmtk_echoes_and_stores_over_tls(lane, certificates, request, tmp_path):
    node = request.getfixturevalue(lane)
    sent = mr_slice("dcmtk", 1)
    sent.save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    assert dcmtk("echoscu", node, certificates, "pacs") == 0
    assert dcmtk("storescu", node, certificates, "pacs", str(tmp_path / "slice.dcm")) == 0
    assert kept(node, str(sent.SOPInstanceUID)) == encoded(sent)
    for nobody in ("stranger", "old"):
        assert dcmtk("echoscu", node, certificates, nobody) != 0


def dcmtk(program: str, node: Listening, certificates: Certificates, own: str, *files: str) -> int:
    folder = certificates.folder
    command = [
        require(program), "-to", "5", "-aet", "PACS", "-aec", "QUARTERDOSE", "+tls", folder / f"{own}.key",
        folder / f"{own}.pem", "+cf", folder / "ca.pem", "127.0.0.1", str(node.port), *files,
    ]  # fmt: skip
    return subprocess.run(command, timeout=30, check=False, capture_output=True).returncode


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw=st.data())
def test_records_of_tls_may_end_anywhere(draw, node, certificates):
    """PDUs longer than a record, several in one, and what OpenSSL has deciphered ahead of what was asked for."""
    dataset = mr_slice("tls", draw.draw(st.integers(100, 60_000)))
    dataset.add_new((0x0009, 0x0010), "LO", "TEST")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(draw.draw(st.sampled_from([0, 40_000]))))
    content, uid = encoded(dataset), str(dataset.SOPInstanceUID)
    stream = (
        pdu(P_DATA, value(1, 3, store_command(instance=uid))) + pdu(P_DATA, value(1, 2, content))
        + pdu(P_DATA, value(3, 3, echo_command(7))) + pdu(RELEASE_RQ, bytes(4))
    )  # fmt: skip
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    with RawPeer(node.port, tls=certificates.client()) as peer:
        assert peer.associate(contexts=CONTEXTS) == ASSOCIATE_AC
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            peer.send(stream[begin:end])
        assert (peer.status(), peer.status()) == (0, 0)
        assert peer.receive()[0] == RELEASE_RP
    assert kept(node, uid) == content


def test_whoever_is_silent_holds_up_nobody(node, certificates):
    eventually(lambda: threads_of_connections() == 0)
    silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(8)]
    begin = time.monotonic()
    assert answers_echo(node, certificates.client())
    assert time.monotonic() - begin < _PATIENCE, "before any of them was given up"
    assert threads_of_connections() >= len(silent)
    eventually(lambda: threads_of_connections() == 0)
    for one in silent:
        assert one.recv(10) == b""
        one.close()


def test_pynetdicoms_own_listener_is_held_up_by_one_silent_client(certificates):
    """The fault that the test above guards against, in the version that is pinned."""
    ae = AE("STOCK")
    ae.add_supported_context(Verification)
    port = free_port()
    ae.network_timeout = 2
    ae.start_server(("127.0.0.1", port), block=False, ssl_context=server_context(certificates.settings()))
    with socket.create_connection(("127.0.0.1", port)) as silent:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=1) as other, pytest.raises(TimeoutError):
            certificates.client().wrap_socket(other, server_hostname="127.0.0.1")
        silent.close()
    ae.shutdown()


def test_a_handshake_byte_by_byte_is_given_up(node, certificates):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = certificates.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", node.port)) as peer, pytest.raises(OSError):
        for byte in outgoing.read():
            peer.sendall(bytes((byte,)))
            time.sleep(0.1)
    assert time.monotonic() - begin < 4 * _PATIENCE
    eventually(lambda: threads_of_connections() == 0)


@pytest.mark.parametrize("damaged", [False, True], ids=["stall", "damage"])
def test_a_stall_inside_a_record_times_out_and_a_damaged_one_ends_the_connection(node, certificates, caplog, damaged):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = certificates.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as peer:
        while True:
            try:
                talk.do_handshake()
            except ssl.SSLWantReadError:
                peer.sendall(outgoing.read())
                incoming.write(peer.recv(1 << 16))
            else:
                break
        peer.sendall(outgoing.read())
        talk.write(associate_request())
        record = outgoing.read()
        peer.sendall(record[:-1] + bytes((record[-1] ^ 1,)) if damaged else record[:-20])
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while peer.recv(1 << 16):
                pass
        assert time.monotonic() - begin < 4 * _PATIENCE
    eventually(lambda: threads_of_connections() == 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_connections_that_never_shake_hands_are_counted(node, certificates):
    eventually(lambda: threads_of_connections() == 0)
    peers = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(80)]
    time.sleep(0.3)
    assert threads_of_connections() <= 68, "as many as there may be without TLS"
    for peer in peers:
        peer.close()
    eventually(lambda: threads_of_connections() == 0)
    assert answers_echo(node, certificates.client())


@pytest.mark.parametrize(
    ("own", "version"),
    [
        ("stranger", ssl.TLSVersion.TLSv1_3),
        ("stranger", ssl.TLSVersion.TLSv1_2),
        ("old", ssl.TLSVersion.TLSv1_3),
        ("", ssl.TLSVersion.TLSv1_3),
        ("", ssl.TLSVersion.TLSv1_2),
        ("pacs", ssl.TLSVersion.TLSv1_1),
        ("pacs", ssl.TLSVersion.TLSv1),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_whoever_is_not_known_gets_no_association(node, certificates, own, version):
    with pytest.raises(OSError), RawPeer(node.port, tls=certificates.client(own, version)) as peer:
        peer.send(associate_request())
        assert peer.socket.recv(10) == b""
        raise ConnectionError("closed without a word, as TLS 1.3 may")
    eventually(lambda: threads_of_connections() == 0)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_the_callers_above_do_speak_what_is_refused(certificates):
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.minimum_version = ssl.TLSVersion.TLSv1
    lax.set_ciphers("ALL:@SECLEVEL=0")
    lax.load_cert_chain(certificates.folder / "node.pem", certificates.folder / "node.key")
    for version, name in ((ssl.TLSVersion.TLSv1, "TLSv1"), (ssl.TLSVersion.TLSv1_1, "TLSv1.1")):
        here, there = socket.socketpair()
        with here, there:
            server = threading.Thread(target=lambda end=there: lax.wrap_socket(end, server_side=True))
            server.start()
            with certificates.client("old", version).wrap_socket(here, server_hostname="127.0.0.1") as spoken:
                assert spoken.version() == name
            server.join()


@pytest.mark.parametrize(
    "sent", [associate_request(), b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\xff\xff" + b"x" * 50],
    ids=["plain DICOM", "http", "probe", "garbage"],
)  # fmt: skip
def test_what_is_not_tls_is_told_nothing(node, certificates, sent):
    with RawPeer(node.port) as peer:
        peer.send(sent)
        peer.socket.settimeout(10)
        try:
            answer = peer.socket.recv(100)
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer[0] == 0x15, "nothing, or an alert of TLS"
    eventually(lambda: threads_of_connections() == 0)
    assert answers_echo(node, certificates.client())


def test_probes_are_not_logged_and_refusals_are(node, certificates, caplog):
    for _ in range(20):
        socket.create_connection(("127.0.0.1", node.port)).close()
    eventually(lambda: threads_of_connections() == 0)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    with pytest.raises(OSError), RawPeer(node.port, tls=certificates.client("old")) as peer:
        peer.send(associate_request())
        assert not peer.socket.recv(10)
        raise ConnectionError
    eventually(lambda: "127.0.0.1: no TLS: its certificate is not accepted: certificate has expired" in caplog.text)


def test_certificates_of_callers_may_be_left_out_where_configured(start_receiver, certificates):
    node = start(start_receiver, certificates.table(required=False))
    assert answers_echo(node, certificates.client(""))
    assert answers_echo(node, certificates.client("pacs"))
    with pytest.raises(OSError), RawPeer(node.port, tls=certificates.client("stranger")) as peer:
        peer.send(associate_request())
        assert not peer.socket.recv(10)
        raise ConnectionError


def test_a_sender_that_vanishes_leaves_nothing(node, certificates, monkeypatch):
    monkeypatch.setattr(coming, "LARGEST_HELD", 100)
    content, uid = data(77)
    with RawPeer(node.port, tls=certificates.client()) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, value(1, 3, store_command(instance=uid))), pdu(P_DATA, value(1, 0, content[:500])))
        eventually(lambda: list((node.settings.node.data / "incoming").iterdir()))
    eventually(lambda: list((node.settings.node.data / "incoming").iterdir()) == [])
    with RawPeer(node.port, tls=certificates.client()) as peer:
        peer.associate()
        assert is_gone(peer), "and silence is ended"
    eventually(lambda: threads_of_connections() == 0)


def test_several_send_at_once(node, certificates):
    failed: list[int] = []

    def send(first: int) -> None:
        with RawPeer(node.port, tls=certificates.client()) as peer:
            peer.associate()
            for number in range(first, first + 10):
                content, uid = data(number)
                peer.store(content, instance=uid)
                if peer.status() != 0 or kept(node, uid) != content:
                    failed.append(number)

    threads = [threading.Thread(target=send, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def broken(folder: Path) -> None:
    """Files that cannot be used, for whatever reason."""
    run = ["openssl", "ec", "-in", "node.key", "-aes128", "-passout", "pass:abc", "-out", "locked.key"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    run = ["openssl", "x509", "-in", "node.pem", "-outform", "der", "-out", "der.pem"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    weak = ["-newkey", "rsa:1024", "-nodes", "-keyout", "weak.key", "-out", "weak.pem", "-subj", "/CN=weak"]
    subprocess.run(["openssl", "req", "-x509", *weak], cwd=folder, check=True, capture_output=True)
    (folder / "cut.pem").write_bytes((folder / "ca.pem").read_bytes()[:300] + b"\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"certificate": "none.pem"}, r"receiver.tls.certificate = '.*none.pem': No such file.*node's user may read"),
        ({"key": "pacs.key"}, r"receiver.tls.key = '.*pacs.key': it is not the key of .*node.pem"),
        ({"key": "locked.key"}, r"receiver.tls.key = '.*locked.key': it is encrypted.*without a passphrase"),
        ({"key": "node.pem"}, r"receiver.tls.key = '.*node.pem': it holds no PRIVATE KEY"),
        ({"certificate": "der.pem"}, r"receiver.tls.certificate = '.*der.pem': it holds no CERTIFICATE; PEM is needed"),
        ({"certificate": "cut.pem"}, r"receiver.tls.certificate = '.*cut.pem': .*PEM"),
        ({"certificate": "weak.pem", "key": "weak.key"}, r"receiver.tls.certificate = '.*weak.pem'.*2048 bits"),
        ({"certificate_authority": "node.key"}, r"certificate_authority = '.*node.key': it holds no CERTIFICATE"),
        ({"certificate_authority": "cut.pem"}, r"certificate_authority = '.*cut.pem': .*export it again as PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_a_remedy(certificates, changed, said):
    broken(certificates.folder)
    with pytest.raises(ConfigurationError, match=said):
        server_context(certificates.settings(**changed))


def test_a_node_with_bad_files_does_not_start(start_receiver, certificates):
    with pytest.raises(ConfigurationError, match="not the key of"):
        start(start_receiver, certificates.table(key="pacs"))


def test_an_authority_is_asked_for_and_files_lie_beside_the_configuration(tmp_path):
    files = 'certificate = "node.pem", key = "", certificate_authority = ""'
    path = write_config(tmp_path, **tls_lines(f"{{ {files}, require_client_certificate = true }}"))
    with pytest.raises(ConfigurationError, match="needs a certificate_authority"):
        load_settings(path)
    path.write_text(path.read_text().replace("require_client_certificate = true", "require_client_certificate = false"))
    tls = load_settings(path).receiver.tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (str(tmp_path / "node.pem"), "")


def test_check_sees_the_files_and_their_last_day(certificates, node, tmp_path):
    assert valid_until(certificates.settings()).timestamp() - time.time() == pytest.approx(2 * 86400, abs=3600)
    running = check_receiver(node.settings)
    assert running.ok
    assert "a node with our certificate listens already" in running.found
    for own, key, ok, said in (
        ("node", "", True, "TLS, certificate valid until"),
        ("old", "", False, "old.pem': certificate has expired; have a new one signed"),
        ("node", "pacs", False, "it is not the key of"),
    ):
        path = write_config(tmp_path, **tls_lines(certificates.table(own, key=key)))
        finding = check_receiver(load_settings(path))
        assert (finding.ok, said in finding.found) == (ok, True), finding
