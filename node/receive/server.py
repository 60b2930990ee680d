"""The socket that listens, and what it makes of each connection."""

from __future__ import annotations

import logging
import socket
import threading
from datetime import datetime
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from node.receive.fast_lane import FastLaneAssociation
from node.receive.lane import Lane

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2


class Connection(RequestHandler):  # type: ignore[misc] # pynetdicom is not typed
    """One accepted connection, in a thread of its own, made into an association."""

    server: Server

    def handle(self) -> None:
        self.request.settimeout(self.server.timeout_seconds)
        super().handle()

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


class Server(ThreadedAssociationServer):  # type: ignore[misc] # pynetdicom is not typed
    """``lane``: what serves associations; None leaves them to pynetdicom. ``most``: connections at once."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self, ae: ApplicationEntity, address: Any, handlers: list[Any], *, lane: Lane | None, most: int,
        timeout_seconds: float,
    ) -> None:
        self.lane = lane
        self.timeout_seconds = timeout_seconds
        self._most = most
        self._thread = threading.Thread(target=self.serve_forever, args=(_LOOK_SECONDS,), name="listener", daemon=True)
        super().__init__(
            ae, address, ae.ae_title, ae.supported_contexts, evt_handlers=handlers, request_handler=Connection
        )

    def start(self) -> None:
        self.ae._servers.append(self)
        self._thread.start()

    def verify_request(self, request: socket.socket, client_address: Any) -> bool:
        """Whether there is room for one more connection."""
        if len(self.active_associations) < self._most:
            return True
        log.warning("%s: connection closed, there are %d already", client_address[0], self._most)
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("a connection from %s could not be served", client_address[0])
