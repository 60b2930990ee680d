"""Storage commitment, push model, as provider (PS3.4 J.3): the answer comes later and over a new association."""

from __future__ import annotations

import logging

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from simulator.archive.faults import FaultOrder
from simulator.archive.index import Index
from simulator.archive.send import Peer

_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
_PROCESSING_FAILURE, _NO_SUCH_OBJECT, _CLASS_CONFLICT = 0x0110, 0x0112, 0x0119  # PS3.3 C.14.1.1
_log = logging.getLogger(__name__)


def answer_to(request: Dataset, index: Index, faults: FaultOrder) -> tuple[int, Dataset]:
    """Event type and event information for a commitment request: which instances are held, which are not."""
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    committed, failed = [], []
    for asked in request.ReferencedSOPSequence:
        item = Dataset()
        item.ReferencedSOPClassUID = asked.ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = asked.ReferencedSOPInstanceUID
        reason = _failure_reason(asked, index, faults)
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


def _failure_reason(asked: Dataset, index: Index, faults: FaultOrder) -> int | None:
    """Why the instance is not committed, or None if it is."""
    held = index.get(asked.ReferencedSOPInstanceUID)
    if held is None:
        return _NO_SUCH_OBJECT
    if held.sop_class_uid != asked.ReferencedSOPClassUID:
        return _CLASS_CONFLICT
    return _PROCESSING_FAILURE if faults.fail_commitment() else None


def report_commitment(event_type: int, report: Dataset, peer: Peer, calling_ae_title: str) -> bool:
    """Send N-EVENT-REPORT to the requester over a new association; whether it took it."""
    entity = AE(calling_ae_title)
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(
        peer.host, peer.port, ae_title=peer.ae_title,
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],  # the provider opens, so roles are swapped
    )
    if not association.is_established:
        _log.warning("no association with %s to report a storage commitment", peer.ae_title)
        return False
    status, _ = association.send_n_event_report(
        report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return "Status" in status and status.Status == 0x0000
