"""An association that we request (PS3.8 section 7.1): over TCP or TLS, with pynetdicom where it is held to its word."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from ssl import SSLContext
from threading import Event as Flag
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.service_class_n import StorageCommitmentServiceClass
from pynetdicom.transport import AssociationSocket

from node.entity import entity_of
from node.reach import after_refusal, why_not
from node.sender import CommitmentReport, RefusedError, SendError

log = logging.getLogger(__name__)

MEDIUM = 0  # Priority (0000,0700), PS3.7 section 9.1; pynetdicom's own choice is LOW

_INVALID_PDU = "Evt19"  # PS3.8 Table 9-10

_READ_BYTES = 1 << 17


@dataclass(frozen=True)
class Peer:
    """A DICOM application we call, and the name we call ourselves; over TLS when there is a context for it."""

    ae_title: str
    host: str
    port: int
    our_ae_title: str
    timeout_seconds: float = 30.0
    tls: SSLContext | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


@dataclass(frozen=True)
class StorageScp:
    """Our part in a C-GET: of these SOP classes we are the Storage SCP on an association that we requested (PS3.4
    C.5.3). ``store`` answers a C-STORE request."""

    sop_classes: Sequence[str]
    store: Callable[[evt.Event], Dataset]


@contextmanager
def released(association: Association) -> Iterator[Association]:
    """It is released at the end, if it stands then."""
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def entity(peer: Peer) -> AE:
    """An AE of ours that asks with the peer's timeouts."""
    ae = entity_of(peer.our_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_seconds
    return ae


def associate(
    ae: AE, peer: Peer, report: CommitmentReport | None = None, storage: StorageScp | None = None,
    as_scp: Sequence[str] = (),
) -> Association:  # fmt: skip
    """An association that stands; ``as_scp``: the SOP classes in which the roles are to be swapped, beside those of
    ``storage``. Raises SendError with the standard's reason when there is none."""

    def reported(event: evt.Event) -> tuple[int, None]:
        assert report is not None  # noqa: S101 - bound only when there is one
        report(event.event_information)
        return 0x0000, None

    stands = Flag()

    def opened(event: evt.Event) -> None:
        connection = event.assoc.dul.socket
        connection.socket.settimeout(peer.timeout_seconds)  # or a PDU that stops in the middle would never end
        connection.recv = partial(_receive, connection)
        # Before anything is received: a peer may report as soon as it has accepted.
        event.assoc.dimse.msg_queue = _Messages() if storage is None else _MessagesOfGet()
        _end_at_nonsense(event.assoc)
        _hold_to_its_end(event.assoc)
        _answer_reports(event.assoc, stands)

    def established(_: evt.Event) -> None:
        stands.set()

    handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, opened), (evt.EVT_ESTABLISHED, established)]
    if report is not None:
        handlers.append((evt.EVT_N_EVENT_REPORT, reported))
    if storage is not None:
        handlers.append((evt.EVT_C_STORE, storage.store))
        as_scp = [*as_scp, *storage.sop_classes]
    roles = [build_role(sop_class, scp_role=True) for sop_class in as_scp]
    try:
        association = ae.associate(
            peer.host, peer.port, ae_title=peer.ae_title, ext_neg=roles, evt_handlers=handlers,
            tls_args=None if peer.tls is None else (peer.tls, peer.host),
        )  # fmt: skip
    except OSError as error:  # a host without an address; any other is kept
        raise SendError(f"{peer} cannot be reached: {error.strerror}; is the host right?") from error
    if association.is_established:
        return association
    if association.is_rejected:
        refusal = association.acceptor.primitive
        why = f"{peer} refused the association: {refusal.result_str}, {refusal.reason_str}"
        raise SendError(f"{why}; {after_refusal(refusal.reason_str, peer.our_ae_title)}")
    if association.rejected_contexts:  # it accepted the association, and nothing in it
        names = dict.fromkeys(UID(context.abstract_syntax).name for context in association.rejected_contexts)
        raise RefusedError(f"{peer} accepts no presentation context: none of {', '.join(names)}")
    raise SendError(f"{peer} cannot be reached: {why_not(peer.host, peer.port, peer.tls)}")


def _end_at_nonsense(association: Association) -> None:
    """A message that cannot be read aborts the association, as an invalid PDU does (PS3.8 section 9.2.2, AA-8). In
    pynetdicom 3.0.4 it ends the thread that listens, and whoever waits for an answer hears nothing of it."""
    receive = association.dimse.receive_primitive

    def receive_or_abort(primitive: P_DATA) -> None:
        try:
            receive(primitive)
        except Exception as error:  # noqa: BLE001 - whatever pynetdicom and pydicom raise for bytes from outside
            peer = association.acceptor.ae_title
            log.warning("%s sent a message that cannot be read: %s %s", peer, type(error).__name__, error)
            association.dul.event_queue.put(_INVALID_PDU)
            association.dimse.msg_queue.put((None, None))  # no more will come

    association.dimse.receive_primitive = receive_or_abort


def _hold_to_its_end(association: Association) -> None:
    """When its reactor ends, however it does, the association ends. In pynetdicom 3.0.4 one whose reactor was told to
    end before it began, or in the middle of a turn, may stand, and ``release`` and ``send_*`` wait for it for ever."""
    react = association._run_reactor

    def react_and_end() -> None:
        try:
            react()
        finally:
            if association.is_established:
                association.abort()
            association.kill()

    association._run_reactor = react_and_end


def _answer_reports(association: Association, stands: Flag) -> None:
    """Have the peer's N-EVENT-REPORT answered in the thread that pynetdicom 3.0.4 begins for each, but not before the
    association stands, for it aborts one that comes with the acceptance, and without ``_is_paused``: pynetdicom clears
    it when the report ends, and a ``send_*`` that begins at that moment waits for it for ever."""
    serve = association._serve_request

    def serve_in_time(message: Any, context_id: int) -> None:
        if not isinstance(message, N_EVENT_REPORT):
            serve(message, context_id)
        elif stands.wait(association.acse_timeout) and not association._sent_release:
            context = {one.context_id: one for one in association.accepted_contexts}.get(context_id)
            if context is None:
                association.abort()
            else:
                StorageCommitmentServiceClass(association).SCP(message, context)

    association._serve_request = serve_in_time


class _Messages:
    """What an association of ours has received: responses for whoever waits for one, requests for its reactor.

    pynetdicom 3.0.4 keeps both in one queue, from which its reactor now and then takes the response that a ``send_*``
    waits for ("Received unexpected … service message"), and a ``send_*`` could take a request for its response.
    """

    def __init__(self) -> None:
        self._responses: Queue[Any] = Queue()
        self._requests: Queue[Any] = Queue()

    def put(self, item: tuple[int | None, Any]) -> None:
        """A message with its presentation context; (None, None) says that no more will come."""
        message = item[1]
        is_request = message is not None and message.is_valid_request
        (self._requests if is_request else self._responses).put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The reactor asks without blocking, everybody else blocks. Raises queue.Empty."""
        return (self._responses if block else self._requests).get(block, timeout)


class _MessagesOfGet(Queue[Any]):
    """What an association for C-GET has received: all of it, the peer's C-STORE requests too, is for ``send_c_get``."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Raises queue.Empty, always so for the reactor, which asks without blocking."""
        if not block:
            raise Empty
        return super().get(block, timeout)


def _receive(connection: AssociationSocket, count: int) -> bytearray:
    """So many bytes, fewer when the connection is closed. pynetdicom's own ``recv`` reads 4096 at a time, and leaves
    acknowledging to the kernel, which delays it: a sender with Nagle's algorithm waits 40 ms for each instance."""
    content = bytearray()
    while len(content) < count:
        if hasattr(socket, "TCP_QUICKACK"):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got = connection.socket.recv(min(count - len(content), _READ_BYTES))
        if not got:
            break
        content += got
    return content


