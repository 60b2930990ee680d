"""Why a DICOM peer cannot be reached is said, with what to do about it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from node.association import Peer
from node.scu import echo
from node.sender import SendError
from node.settings import TlsSettings
from node.trust import client_context
from tests.conftest import free_port
from tests.node.receive.certificates import Authority


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Takes connections and does ``answer`` with each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def why(port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> str:
    with pytest.raises(SendError) as raised:
        echo(Peer("PACS", host, port, "NODE", 2.0, tls))
    return str(raised.value)


def test_nobody_listens():
    assert "cannot be reached: Connection refused; is it running" in why(free_port())


def test_the_host_has_no_address():
    assert "is the host right?" in why(104, host="nowhere.invalid")


def test_it_is_no_dicom_application():
    with serving(lambda connection: connection.sendall(b"220 mail\r\n")) as port:
        assert "it ends the connection; is it a DICOM application" in why(port)


@pytest.mark.parametrize("cipher", ["ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"])
def test_it_speaks_tls_in_other_ways(tmp_path, cipher):
    """The control shows that the server does speak it."""
    certificate = Authority(tmp_path).sign("pacs", rsa_bits=2048)
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(certificate, certificate.with_suffix(".key"))
    other.maximum_version = ssl.TLSVersion.TLSv1_2
    other.set_ciphers(cipher)

    def greet(connection: socket.socket) -> None:
        with suppress(OSError):
            other.wrap_socket(connection, server_side=True).recv(1)

    known = TlsSettings(certificate_authority=str(tmp_path / "ca.pem"), certificate="", key="")
    with serving(greet) as port:
        told = why(port, client_context(known, "pacs"))
        lax = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        lax.set_ciphers(cipher)
        raw = socket.create_connection(("127.0.0.1", port))
        with lax.wrap_socket(raw, server_hostname="127.0.0.1") as end:
            assert (end.cipher() or ("",))[0] == cipher
    assert "nothing in common" in told
    assert "TLS 1.2 with ECDHE and AES-GCM or ChaCha20" in told


def test_it_shows_a_weak_key(tmp_path):
    authority = Authority(tmp_path)
    weak = authority.sign("pacs", rsa_bits=1024)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.load_cert_chain(weak, weak.with_suffix(".key"))

    def greet(connection: socket.socket) -> None:
        with suppress(OSError):
            server.wrap_socket(connection, server_side=True).recv(1)

    known = TlsSettings(certificate_authority=str(tmp_path / "ca.pem"), certificate="", key="")
    with serving(greet) as port:
        assert "have one made with a key of 2048 bits RSA or more" in why(port, client_context(known, "pacs"))


def test_it_speaks_no_tls():
    with serving(lambda connection: connection.sendall(b"220 mail\r\n")) as port:
        assert "it does not speak TLS there" in why(port, client_context(None, "pacs"))
