"""Telling a peer what this node keeps of what it sent: the result of a storage commitment (PS3.4 Annex J).

As provider the node says committed only of what it holds: the row is there and the file behind it has its size. The
result goes over an association of its own to the address that [[peer]] or [[destination]] gives for the asking AE
title; each attempt is a durable workflow, so that neither a restart nor a peer that is down for hours loses it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.association import associate, entity, released
from node.commitment_services import SUCCESS, CommitmentRequest, address_of
from node.database import writing
from node.deliver import peer_of
from node.engine import commitments_to
from node.files import DataFolder
from node.retrieve import Outcome
from node.sender import SendError
from node.settings import PeerSettings, Settings
from node.tables import Event, Instance

log = logging.getLogger(__name__)

NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119  # Failure Reason (0008,1197), PS3.3 C.14.1.1
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2  # Event Type IDs, PS3.4 J.3.3
_PATIENCE_SECONDS = 30.0


class CommitmentResults:
    """Does one attempt to tell a result at a time; raises nothing that a peer could cause."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    def attempt(self, request: CommitmentRequest, number: int) -> Outcome:
        """Tell what is held now."""
        peer = address_of(request.ae_title, self._settings)
        if peer is None:
            return self._given_up(request, "no [[peer]] says any more where to tell it")
        try:
            result = self._tell(peer, request)
        except (SendError, SQLAlchemyError, OSError) as error:
            return self._not_yet(request, number, str(error))
        committed, failed = (len(result.get(name) or ()) for name in ("ReferencedSOPSequence", "FailedSOPSequence"))
        why = f"transaction {request.transaction_uid}: {committed} instances are kept here, {failed} are not"
        return self._note(request, "storage commitment told", why)

    def _tell(self, peer: PeerSettings, request: CommitmentRequest) -> Dataset:
        """N-EVENT-REPORT with the roles swapped; what was told. Raises SendError unless the peer has taken it."""
        event_type, result = result_of(request, self._engine, DataFolder(self._settings.node.data))
        called = peer_of(peer, self._settings.node.ae_title, _PATIENCE_SECONDS)
        ae = entity(called)
        ae.add_requested_context(StorageCommitmentPushModel)
        with released(associate(ae, called, as_scp=[StorageCommitmentPushModel])) as association:
            try:
                status, _ = association.send_n_event_report(
                    result, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
                )
            except (RuntimeError, ValueError) as error:  # the association has ended; the roles were not swapped
                raise SendError(f"{called} did not take it: {error}") from error
        if "Status" not in status:
            raise SendError(f"{called} did not answer within {_PATIENCE_SECONDS:g} s, or aborted")
        if status.Status != SUCCESS:
            raise SendError(f"{called} answered 0x{status.Status:04X}")
        return result

    def _not_yet(self, request: CommitmentRequest, number: int, problem: str) -> Outcome:
        patience = self._settings.delivery
        if patience.is_over(number):
            return self._given_up(request, problem)
        pause = patience.backoff(number)
        log.warning(
            "the result of storage commitment %s is not told: %s; next in %g s", request.transaction_uid, problem, pause
        )
        return Outcome(problem, number + 1, pause)

    def _given_up(self, request: CommitmentRequest, problem: str) -> Outcome:
        log.error(
            "%s is not told the result of its storage commitment %s any more: %s",
            request.ae_title, request.transaction_uid, problem,
        )  # fmt: skip
        return self._note(
            request, "storage commitment not told",
            f"transaction {request.transaction_uid}: {problem}; it has to ask again",
        )  # fmt: skip

    def _note(self, request: CommitmentRequest, what: str, why: str) -> Outcome:
        with writing(self._engine) as session:
            session.add(Event(study_id=None, who=request.ae_title, what=what, why=why))
        return Outcome(what)


def result_of(request: CommitmentRequest, engine: Engine, folder: DataFolder) -> tuple[int, Dataset]:
    """Event Type ID and Event Information (PS3.4 table J.3-2): which instances this node holds, and which not."""
    result = Dataset()
    result.TransactionUID = request.transaction_uid
    committed, failed = [], []
    with Session(engine) as session:
        for sop_class_uid, sop_instance_uid in request.references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
            reason = _failure(session, sop_class_uid, sop_instance_uid, folder)
            if reason is None:
                committed.append(item)
            else:
                item.FailureReason = reason
                failed.append(item)
    if committed:
        result.ReferencedSOPSequence = committed
    if failed:
        result.FailedSOPSequence = failed
    return (_FAILURES_EXIST if failed else _ALL_COMMITTED), result


def _failure(session: Session, sop_class_uid: str, sop_instance_uid: str, folder: DataFolder) -> int | None:
    """Why the node does not answer for an instance; None when it does."""
    rows: Sequence[Instance] = session.scalars(
        select(Instance).where(Instance.sop_instance_uid == sop_instance_uid, Instance.current)
    ).all()
    held = [row for row in rows if _is_whole(folder, row)]
    if not held:
        return NO_SUCH_INSTANCE
    if all(row.header.get("sop_class_uid") != sop_class_uid for row in held):
        return CLASS_CONFLICT
    return None


def _is_whole(folder: DataFolder, row: Instance) -> bool:
    path = folder.root / row.path
    return path.is_file() and path.stat().st_size == row.size


def register(results: CommitmentResults) -> None:
    """Make the workflow known to the engine. To be called once, before it is launched."""

    def attempt(request: dict[str, Any], number: int) -> dict[str, Any]:
        return asdict(results.attempt(CommitmentRequest(**request), number))

    @DBOS.workflow(name="tell_commitment", max_recovery_attempts=None)
    def tell_commitment(request: dict[str, Any], identity: str, number: int) -> None:
        outcome = Outcome(**DBOS.run_step({"name": "attempt"}, attempt, request, number))
        if outcome.next_number:
            following = SetWorkflowID(f"commitment-{identity}-{outcome.next_number}")
            with following, SetEnqueueOptions(delay_seconds=outcome.again_in):
                DBOS.enqueue_workflow(
                    commitments_to(str(request["ae_title"])), tell_commitment, request, identity, outcome.next_number
                )
