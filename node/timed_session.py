"""HTTP requests that all come to an end, whatever the server does: silence, the whole time and the size are bounded."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

Opened = Callable[[socket.socket], None]

_LARGEST_ANSWER_MB = 64


class TooLargeError(requests.RequestException):
    """An answer that was to be read at once is larger than any should be; the text says so."""


class TimedSession(requests.Session):
    """Every request ends after ``seconds`` of silence: requests itself would wait for ever. ``tls`` is for https;
    without it the system's authorities are trusted.

    ``overdue``: after how many seconds the connections were ended, 0 while they were not.
    """

    def __init__(self, seconds: float, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._seconds = seconds
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self.overdue = 0.0
        # The configuration alone says where images and secrets go: no proxy of the environment, nobody's redirection.
        self.trust_env = False
        self.max_redirects = 0
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(tls, self._opened))

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """As requests does it, with the session's patience with silence. Raises requests.RequestException only."""
        try:
            return super().request(*arguments, **{**options, "timeout": self._seconds})
        except requests.RequestException:
            raise
        except ValueError as error:  # a Location in no encoding, say
            raise requests.exceptions.InvalidHeader from error

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """After so many seconds every connection ends, wherever in a request or an answer it is: bytes that drip in are
        no silence. Raises requests.Timeout then, whatever that led to: an answer that is cut off may look whole."""
        self.overdue = 0.0
        timer = Timer(seconds, self._end, (seconds,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if self.overdue:
                raise requests.Timeout from error
            raise
        finally:
            timer.cancel()
        if self.overdue:
            raise requests.Timeout

    def _opened(self, connection: socket.socket) -> None:
        self._sockets.add(connection)
        if self.overdue:
            self._end(self.overdue)

    def _end(self, seconds: float) -> None:
        self.overdue = seconds
        for connection in list(self._sockets):
            with suppress(OSError):  # it has ended by itself
                # That of the connection below TLS: an SSLSocket's own would let the rest be read as if it were plain.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Connections that use ``tls`` and nothing else, and of which ``opened`` is told. Raises TooLargeError."""

    def __init__(self, tls: ssl.SSLContext | None, opened: Opened) -> None:
        self._tls = tls
        self._pools = {"http": _told(HTTPConnectionPool, opened), "https": _told(HTTPSConnectionPool, opened)}
        super().__init__()

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        """Here, for requests reads everything at once that is no stream, and what comes with a redirection always."""
        answer = super().send(*arguments, **options)
        if answer.is_redirect:
            answer.close()
            answer._content = b""
        elif not options.get("stream"):
            answer._content = _all_of(answer)
        return answer

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        self._tls = self._tls or ssl.create_default_context()  # reading the system's takes its time
        return host, {"ssl_context": self._tls}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: requests would add authorities of its own to the context."""


def _all_of(answer: requests.Response) -> bytes:
    content = bytearray()
    for chunk in answer.iter_content(1 << 16):
        content += chunk
        if len(content) > _LARGEST_ANSWER_MB << 20:
            answer.close()
            raise TooLargeError(
                f"it answers with more than {_LARGEST_ANSWER_MB} MB; ask for less, or have it answer in pages"
            )
    return bytes(content)


def _told(pool: type[HTTPConnectionPool], opened: Opened) -> type[HTTPConnectionPool]:
    """A kind of pool whose connections tell ``opened`` of their socket once they stand."""
    connection: Any = HTTPSConnection if issubclass(pool, HTTPSConnectionPool) else HTTPConnection

    class Connection(connection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            opened(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
