"""Why a DICOM peer cannot be reached is said, with what to do about it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from node.scu import Peer, echo
from node.sender import SendError
from node.trust import client_context
from tests.conftest import free_port


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


def test_it_speaks_no_tls():
    with serving(lambda connection: connection.sendall(b"220 mail\r\n")) as port:
        assert "it does not speak TLS there" in why(port, client_context(None, "pacs"))
