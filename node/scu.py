"""Sending instances: a Storage SCU over one association (DICOM PS3.4 Annex B)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.status import code_to_category

_STATUS_DUPLICATE = 0x0111  # PS3.7 Annex C.5.1: the peer has it already, which is all we wanted


class SendError(Exception):
    """The peer could not be reached, refused, or did not take an instance; the text says which and why."""


class RefusedError(SendError):
    """The peer answered, and the answer was no: it certainly does not hold the instance."""


class NoFindError(Exception):
    """The peer stores, but cannot be asked what it holds."""


@dataclass(frozen=True)
class Peer:
    """A DICOM application we call, and the name we call ourselves."""

    ae_title: str
    host: str
    port: int
    our_ae_title: str
    timeout_seconds: float = 30.0

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Outgoing:
    """One file to send, with what its presentation context needs."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @classmethod
    def of(cls, path: Path) -> Outgoing:
        """Read what is needed from the file meta information. Raises SendError when it is no DICOM file."""
        try:
            meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).file_meta
            return cls(
                path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
            )  # fmt: skip
        except (InvalidDicomError, AttributeError, OSError) as error:
            raise SendError(f"{path} is not a DICOM file that can be sent: {error}") from error


class StorageScu:
    """An open association that takes ``store`` calls; a context manager.

    Raises SendError on entering when the peer is down or refuses, with the standard's reason.
    """

    def __init__(self, peer: Peer, files: Sequence[Outgoing], find: bool = False) -> None:
        self._peer = peer
        self._ae = AE(peer.our_ae_title)
        self._ae.connection_timeout = self._ae.acse_timeout = peer.timeout_seconds
        self._ae.dimse_timeout = self._ae.network_timeout = peer.timeout_seconds
        self._ae.requested_contexts = [build_context(*wanted) for wanted in _contexts(files)]
        if find:
            self._ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        self._association: Association | None = None

    def __enter__(self) -> StorageScu:
        self._association = _associate(self._ae, self._peer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()

    def store(self, file: Outgoing) -> None:
        """Send one instance and wait for the answer. Raises SendError unless the peer has it then."""
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        if not self._association.is_established:
            raise SendError(f"{self._peer} ended the association")
        try:
            answer = self._association.send_c_store(file.path)
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

    def has(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the peer holds it, by C-FIND (IMAGE level). Raises NoFindError or SendError when it cannot say."""
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = study_instance_uid
        query.SeriesInstanceUID = series_instance_uid
        query.SOPInstanceUID = sop_instance_uid
        found = False
        try:
            answers = self._association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
            for status, identifier in answers:
                if "Status" not in status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                    raise SendError(f"{self._peer} did not answer the C-FIND for a doubtful instance: {status}")
                found = found or (identifier is not None and identifier.get("SOPInstanceUID") == sop_instance_uid)
        except ValueError as error:
            raise NoFindError(f"{self._peer} offers no C-FIND") from error
        except RuntimeError as error:
            raise SendError(f"{self._peer} ended the association: {error}") from error
        return found


def echo(peer: Peer) -> None:
    """C-ECHO. Raises SendError when the peer does not answer with success."""
    ae = AE(peer.our_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_seconds
    ae.add_requested_context(Verification)
    with _released(_associate(ae, peer)) as association:
        try:
            answer = association.send_c_echo()
        except RuntimeError as error:
            raise SendError(f"{peer} ended the association: {error}") from error
    if answer.get("Status") != 0x0000:
        raise SendError(f"{peer} answered the C-ECHO with {answer.get('Status', 'nothing')}")


@contextmanager
def _released(association: Association) -> Iterator[Association]:
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _associate(ae: AE, peer: Peer) -> Association:
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if association.is_established:
        return association
    if association.is_rejected:
        refusal = association.acceptor.primitive
        raise SendError(f"{peer} refused the association: {refusal.result_str}, {refusal.reason_str}")
    raise SendError(f"{peer} cannot be reached or ended the connection; is it running, and is the port right?")


def _contexts(files: Sequence[Outgoing]) -> list[tuple[str, str]]:
    """One presentation context for each SOP class and transfer syntax, so that the peer cannot choose a worse one;
    behind them the default syntax, into which what is not compressed may be converted for a peer that knows no other.
    """
    plain = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    wanted = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
    fallback = [(sop_class, str(ImplicitVRLittleEndian)) for sop_class, syntax in wanted if syntax in plain]
    return list(dict.fromkeys([*wanted, *fallback]))
