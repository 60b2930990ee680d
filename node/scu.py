"""Sending by DICOM: Storage, Query and Storage Commitment SCU over one association (PS3.4 Annexes B, C, J)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from ssl import SSLContext
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from pynetdicom.status import code_to_category
from pynetdicom.transport import AssociationSocket

from node.entity import entity_of
from node.header.elements import Elements
from node.reach import after_refusal, why_not
from node.sender import CommitmentReport, NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts

_STATUS_DUPLICATE = 0x0111  # PS3.7 Annex C.5.1: the peer has it already, which is all we wanted

MEDIUM = 0  # Priority (0000,0700), PS3.7 section 9.1; pynetdicom's own choice is LOW

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


class StorageScu:
    """An open association that takes ``store`` calls; a context manager (``node.sender.Sender``).

    ``find`` and ``report`` ask for C-FIND and storage commitment beside storage; ``report`` is called from a thread of
    its own when the commitment's answer comes over this very association. Raises SendError on entering when the peer is
    down or refuses, with the standard's reason.
    """

    def __init__(
        self, peer: Peer, files: Sequence[Outgoing], find: bool = False, report: CommitmentReport | None = None
    ) -> None:
        self._peer = peer
        self._ae = entity(peer)
        self._ae.requested_contexts = [build_context(*wanted) for wanted in _contexts(files)]
        if find:
            self._ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        if report is not None:
            self._ae.add_requested_context(StorageCommitmentPushModel)
        self._report = report
        self._association: Association | None = None

    def __enter__(self) -> StorageScu:
        self._association = associate(self._ae, self._peer, self._report)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()

    @property
    def proposed(self) -> list[PresentationContext]:
        """What it asks an association for."""
        return list(self._ae.requested_contexts)

    def takes(self, sop_class_uid: str) -> bool:
        """Whether the peer accepted a presentation context for it."""
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        return any(context.abstract_syntax == sop_class_uid for context in self._association.accepted_contexts)

    def store(self, file: Outgoing) -> None:
        """Send one instance and wait for the answer. Raises SendError unless the peer has it then."""
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        if not self._association.is_established:
            raise SendError(f"{self._peer} ended the association")
        try:
            answer = self._association.send_c_store(file.path, priority=MEDIUM)
        except ValueError as error:
            # pynetdicom's way to say that the peer accepted no context for this SOP class and transfer syntax.
            raise RefusedError(f"{self._peer} does not take {file.sop_class_uid}: {error}") from error
        except RuntimeError as error:
            raise SendError(f"{self._peer} ended the association: {error}") from error
        if "Status" not in answer:
            raise SendError(f"{self._peer} did not answer within {self._peer.timeout_seconds:g} s, or aborted")
        if answer.Status != _STATUS_DUPLICATE and code_to_category(answer.Status) not in ("Success", "Warning"):
            comment = answer.get("ErrorComment", "")
            raise RefusedError(f"{self._peer} answered 0x{answer.Status:04X} {comment}".rstrip())

    def has(self, instance: Whereabouts) -> bool:
        """Whether the peer holds it, by C-FIND (IMAGE level). Raises NotOfferedError or SendError when it cannot say.
        """
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = instance.study_instance_uid
        query.SeriesInstanceUID = instance.series_instance_uid
        query.SOPInstanceUID = instance.sop_instance_uid
        found, end = False, time.monotonic() + self._peer.timeout_seconds
        try:
            answers = self._association.send_c_find(
                query, StudyRootQueryRetrieveInformationModelFind, priority=MEDIUM
            )
            for status, identifier in answers:
                if "Status" not in status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                    raise SendError(f"{self._peer} did not answer the C-FIND for an instance: {status}")
                match = Elements(identifier or Dataset()).text("SOPInstanceUID")
                found = found or match == instance.sop_instance_uid
                if status.Status != 0x0000 and not match:
                    raise SendError(f"{self._peer} answered the C-FIND with a match that cannot be read")
                if time.monotonic() > end:  # each response begins the DIMSE timeout anew
                    self._association.abort()
                    raise SendError(f"{self._peer} did not finish the C-FIND within {self._peer.timeout_seconds:g} s")
        except ValueError as error:
            raise NotOfferedError(f"{self._peer} offers no C-FIND") from error
        except RuntimeError as error:
            raise SendError(f"{self._peer} ended the association: {error}") from error
        return found

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        """N-ACTION of the Storage Commitment Push Model (PS3.4 J.3.2). Raises NotOfferedError or SendError."""
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_reference(file) for file in files]
        try:
            answer, _ = self._association.send_n_action(
                request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except ValueError as error:
            raise NotOfferedError(f"{self._peer} offers no storage commitment") from error
        except RuntimeError as error:
            raise SendError(f"{self._peer} ended the association: {error}") from error
        if "Status" not in answer:
            raise SendError(f"{self._peer} did not answer the request for storage commitment")
        if answer.Status != 0x0000:
            raise NotOfferedError(f"{self._peer} answered the request for storage commitment 0x{answer.Status:04X}")


def echo(peer: Peer) -> None:
    """C-ECHO. Raises SendError when the peer does not answer with success."""
    ae = entity(peer)
    ae.add_requested_context(Verification)
    with released(associate(ae, peer)) as association:
        try:
            answer = association.send_c_echo()
        except RuntimeError as error:
            raise SendError(f"{peer} ended the association: {error}") from error
    if answer.get("Status") != 0x0000:
        raise SendError(f"{peer} answered the C-ECHO with {answer.get('Status', 'nothing')}")


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


def _reference(file: Outgoing) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = file.sop_class_uid
    item.ReferencedSOPInstanceUID = file.sop_instance_uid
    return item


@dataclass(frozen=True)
class StorageScp:
    """Our part in a C-GET: of these SOP classes we are the Storage SCP on an association that we requested (PS3.4
    C.5.3). ``store`` answers a C-STORE request."""

    sop_classes: Sequence[str]
    store: Callable[[evt.Event], Dataset]


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

    def opened(event: evt.Event) -> None:
        connection = event.assoc.dul.socket
        connection.socket.settimeout(peer.timeout_seconds)  # or a PDU that stops in the middle would never end
        connection.recv = partial(_receive, connection)
        # Before anything is received: a peer may report as soon as the association stands.
        event.assoc.dimse.msg_queue = _Messages() if storage is None else _MessagesOfGet()

    handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, opened)]
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


def _contexts(files: Sequence[Outgoing]) -> list[tuple[str, str]]:
    """One presentation context for each SOP class and transfer syntax, so that the peer cannot choose a worse one;
    behind them the default syntax, into which what is not compressed may be converted for a peer that knows no other.
    """
    plain = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    wanted = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
    fallback = [(sop_class, str(ImplicitVRLittleEndian)) for sop_class, syntax in wanted if syntax in plain]
    return list(dict.fromkeys([*wanted, *fallback]))
