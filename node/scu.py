"""Sending by DICOM: Storage, Query and Storage Commitment SCU over one association (PS3.4 Annexes B, C, J)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from pynetdicom.status import code_to_category

from node.association import MEDIUM, Peer, associate, entity, released
from node.header.elements import Elements
from node.sender import CommitmentReport, NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts

_STATUS_DUPLICATE = 0x0111  # PS3.7 Annex C.5.1: the peer has it already, which is all we wanted


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


def _reference(file: Outgoing) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = file.sop_class_uid
    item.ReferencedSOPInstanceUID = file.sop_instance_uid
    return item


def _contexts(files: Sequence[Outgoing]) -> list[tuple[str, str]]:
    """One presentation context for each SOP class and transfer syntax, so that the peer cannot choose a worse one;
    behind them the default syntax, into which what is not compressed may be converted for a peer that knows no other.
    """
    plain = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    wanted = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
    fallback = [(sop_class, str(ImplicitVRLittleEndian)) for sop_class, syntax in wanted if syntax in plain]
    return list(dict.fromkeys([*wanted, *fallback]))
