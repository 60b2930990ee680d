"""The listener's part in storage commitment (PS3.4 Annex J): hearing answers, and answering for what was sent to us.

As provider the node says committed only of what it holds: the row is there and the file behind it has its size. The
answer goes over a new association to the address that [[peer]] or [[destination]] gives for the asking AE title.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.commit import Reports
from node.deliver import peer_of
from node.files import DataFolder
from node.scu import entity
from node.sender import SendError
from node.settings import DimseDestination, PeerSettings, Settings
from node.tables import Instance

log = logging.getLogger(__name__)

SUCCESS, PROCESSING_FAILURE, NO_SUCH_OBJECT = 0x0000, 0x0110, 0x0112  # PS3.7 Annex C.5
MISSING_ATTRIBUTE, NOT_AUTHORISED = 0x0120, 0x0124
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119  # Failure Reason (0008,1197), PS3.3 C.14.1.1
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
PAUSES = (0.5, 5.0, 30.0, 120.0)  # seconds before each try to report; after the last the peer has to ask again
_PATIENCE_SECONDS = 30.0
_SETTLE_SECONDS = 10.0

Answer = tuple[int, None]


class CommitmentServices:
    """What a listener needs for storage commitment, both ways. ``settle`` waits, at most so many seconds, until what
    was acknowledged has its rows."""

    def __init__(self, settings: Settings, engine: Engine, reports: Reports, settle: Callable[[float], bool]) -> None:
        self._settings = settings
        self._engine = engine
        self._reports = reports
        self._settle = settle
        self._stopping = threading.Event()

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        return [(evt.EVT_N_EVENT_REPORT, self._reported), (evt.EVT_N_ACTION, self._asked)]

    def stop(self) -> None:
        """Report no more: a peer without an answer asks again."""
        self._stopping.set()

    def _reported(self, event: evt.Event) -> Answer:
        caller = event.assoc.requestor.ae_title
        try:
            known = self._reports.take(event.event_information)
        except SQLAlchemyError as error:
            log.error("a storage commitment report from %s was not recorded: %s", caller, error)
            return PROCESSING_FAILURE, None
        if not known:
            log.warning("%s reports on a storage commitment that this node did not ask for", caller)
        return (SUCCESS if known else NO_SUCH_OBJECT), None

    def _asked(self, event: evt.Event) -> Answer:
        caller = event.assoc.requestor.ae_title
        peer = address_of(caller, self._settings)
        if peer is None:
            log.warning("%s asks for storage commitment, but no [[peer]] says where to answer it", caller)
            return NOT_AUTHORISED, None
        request = event.action_information
        if "TransactionUID" not in request or not request.get("ReferencedSOPSequence"):
            return MISSING_ATTRIBUTE, None
        self._settle(_SETTLE_SECONDS)
        try:
            event_type, report = answer_to(request, self._engine, DataFolder(self._settings.node.data))
        except SQLAlchemyError as error:
            log.error("the storage commitment that %s asked for was not looked up: %s", caller, error)
            return PROCESSING_FAILURE, None
        threading.Thread(target=self._report, args=(peer, event_type, report), daemon=True).start()
        return SUCCESS, None

    def _report(self, peer: PeerSettings, event_type: int, report: Dataset) -> None:
        for pause in PAUSES:
            if self._stopping.wait(pause):
                return
            if send_report(self._settings.node.ae_title, peer, event_type, report):
                return
        log.warning("the storage commitment of %s could not be reported; it has to ask again", peer.ae_title)


def address_of(ae_title: str, settings: Settings) -> PeerSettings | None:
    """Where an AE title listens, from [[peer]], else from the destinations."""
    for peer in settings.peer:
        if peer.ae_title == ae_title:
            return peer
    for place in settings.destination:
        if isinstance(place, DimseDestination) and place.ae_title == ae_title:
            return PeerSettings(ae_title=ae_title, host=place.host, port=place.port, tls=place.tls)
    return None


def answer_to(request: Dataset, engine: Engine, folder: DataFolder) -> tuple[int, Dataset]:
    """Event Type ID and Event Information (PS3.4 table J.3-2): which instances this node holds, and which not."""
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    committed, failed = [], []
    with Session(engine) as session:
        for asked in request.ReferencedSOPSequence:
            item = Dataset()
            item.ReferencedSOPClassUID = asked.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = asked.ReferencedSOPInstanceUID
            reason = _failure(session, asked, folder)
            if reason is None:
                committed.append(item)
            else:
                item.FailureReason = reason
                failed.append(item)
    if committed:
        report.ReferencedSOPSequence = committed
    if failed:
        report.FailedSOPSequence = failed
    return (_FAILURES_EXIST if failed else _ALL_COMMITTED), report


def _failure(session: Session, asked: Dataset, folder: DataFolder) -> int | None:
    """Why the node does not answer for an instance; None when it does."""
    rows: Sequence[Instance] = session.scalars(
        select(Instance).where(Instance.sop_instance_uid == asked.ReferencedSOPInstanceUID, Instance.current)
    ).all()
    held = [row for row in rows if _is_whole(folder, row)]
    if not held:
        return NO_SUCH_INSTANCE
    if all(row.header.get("sop_class_uid") != asked.ReferencedSOPClassUID for row in held):
        return CLASS_CONFLICT
    return None


def _is_whole(folder: DataFolder, row: Instance) -> bool:
    path = folder.root / row.path
    return path.is_file() and path.stat().st_size == row.size


def send_report(our_ae_title: str, peer: PeerSettings, event_type: int, report: Dataset) -> bool:
    """N-EVENT-REPORT over an association of our own, roles swapped; whether the peer took it."""
    try:
        called = peer_of(peer, our_ae_title, _PATIENCE_SECONDS)
    except SendError as error:
        log.warning("the storage commitment of %s cannot be reported: %s", peer.ae_title, error)
        return False
    ae = entity(called)
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate(
        peer.host, peer.port, ae_title=peer.ae_title, ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        tls_args=None if called.tls is None else (called.tls, peer.host),
    )  # fmt: skip
    if not association.is_established:
        return False
    try:
        status, _ = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (RuntimeError, ValueError) as error:
        log.warning("%s did not take the report on its storage commitment: %s", peer.ae_title, error)
        return False
    finally:
        association.release()
    return bool(status.get("Status") == SUCCESS)
