"""The socket that listens, and what it makes of each connection."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import IPv6Address
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket, RequestHandler, ThreadedAssociationServer

from node.receive.fast_lane import FastLaneAssociation
from node.receive.lane import Lane

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2


class Connection(RequestHandler):  # type: ignore[misc] # pynetdicom is not typed
    """One accepted connection, in a thread of its own, made into an association."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        if self.server.tls is not None:
            with self.server.greeting():
                secured = self._secure(self.server.tls)
            if not secured:
                return
        self.request.settimeout(self.server.timeout_seconds)
        super().handle()

    @property
    def remote(self) -> AddressInformation:
        """The caller's address; one of IPv4 is written so, though an IPv6 socket listens for both."""
        host, port, *_ = self.client_address
        mapped = IPv6Address(host.partition("%")[0]).ipv4_mapped if ":" in host else None
        return AddressInformation(str(mapped), port) if mapped else AddressInformation.from_tuple(self.client_address)

    def _secure(self, tls: ssl.SSLContext) -> bool:
        """The TLS handshake, which has to be done as a whole within the time for a request."""
        try:
            self.request.settimeout(self.server.request_seconds)
            self.request = tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            self.request.do_handshake()
        except OSError as error:
            probe = isinstance(error, ssl.SSLEOFError | ConnectionError)  # connected and gone again
            log.log(logging.DEBUG if probe else logging.WARNING, "%s: no TLS: %s", self.client_address[0], _why(error))
            self.request.close()
            return False
        return True

    def _create_association(self) -> Association:
        if self.server.lane is None:
            return super()._create_association()
        ae = self.server.ae
        association = FastLaneAssociation(ae, self.server.lane)
        association._server = self.server
        association.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"  # how the server finds its own
        association.set_socket(AssociationSocket(association, client_socket=self.request))
        acceptor = association.acceptor
        acceptor.maximum_length = ae.maximum_pdu_size
        acceptor.ae_title = self.server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = ae.implementation_class_uid
        acceptor.implementation_version_name = ae.implementation_version_name
        # Contexts are only read while negotiating; pynetdicom copies some hundred objects for each association.
        acceptor._contexts = self.server.contexts
        association.requestor.address_info = self.remote
        association._handlers = dict(self.server._handlers)
        return association


def _why(error: OSError) -> object:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else error


class Server(ThreadedAssociationServer):  # type: ignore[misc] # pynetdicom is not typed
    """``lane``: what serves associations; None leaves them to pynetdicom. ``most``: connections at once.
    ``request_seconds``: for a TLS handshake, with ``tls``."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self, ae: ApplicationEntity, address: Any, handlers: list[Any], *, lane: Lane | None, most: int,
        timeout_seconds: float, request_seconds: float, tls: ssl.SSLContext | None = None,
    ) -> None:
        self.lane = lane
        self.timeout_seconds = timeout_seconds
        self.request_seconds = request_seconds
        self.tls = tls
        self._most = most
        self._greeting = 0
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(_LOOK_SECONDS,), name="listener", daemon=True)
        super().__init__(
            ae, address, ae.ae_title, ae.supported_contexts, evt_handlers=handlers, request_handler=Connection
        )

    def start(self) -> None:
        self.ae._servers.append(self)
        self._thread.start()

    @property
    def silence(self) -> float | None:
        """Seconds since it last looked for a caller, which it does all the time; None when its thread has ended."""
        return time.monotonic() - self._looked if self._thread.is_alive() else None

    def service_actions(self) -> None:
        self._looked = time.monotonic()
        super().service_actions()

    def verify_request(self, request: socket.socket, client_address: Any) -> bool:
        """Whether there is room for one more connection."""
        if len(self.active_associations) + self._greeting < self._most:
            return True
        log.warning("%s: connection closed, there are %d already", client_address[0], self._most)
        return False

    @contextmanager
    def greeting(self) -> Iterator[None]:
        """A connection that is no association yet, and counts as one all the same."""
        with self._lock:
            self._greeting += 1
        try:
            yield
        finally:
            with self._lock:
                self._greeting -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("a connection from %s could not be served", client_address[0])
