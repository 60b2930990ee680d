"""The listener: a Storage SCP whose success means durable (DICOM PS3.4 Annex B)."""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Callable, Iterator, Set

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event as NetworkEvent
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.associations import Associations
from node.commit import Reports
from node.commitment_services import CommitmentRequest, CommitmentServices
from node.files import DataFolder
from node.mpps_services import ProcedureStepServices
from node.receive.admission import Admission
from node.receive.answer import CANNOT_UNDERSTAND, Answer
from node.receive.application import application_entity, storage_classes
from node.receive.command import StoreRequest
from node.receive.fast_lane import FastLaneAssociation
from node.receive.lane import Lane, sender_of
from node.receive.negotiation import Negotiated, Negotiations, refused_by
from node.receive.server import Server
from node.receive.shared_reader import SharedReader
from node.receive.store import Store
from node.receive.tls import server_context
from node.settings import Settings
from node.tables import Event

log = logging.getLogger(__name__)

# Service class application information of a Storage SCP (PS3.4 table B.3-2): all attributes are kept (level 2), bit
# by bit (digital signature level 3), none is coerced.
_STORES_EVERYTHING = b"\x02\x00\x03\x00\x00\x00"
_NOTED_AGAIN_SECONDS = 600.0
_MOST_NOTED = 1000
_SETTLE_SECONDS = 2.0
_NAMED = 5  # SOP Class UIDs in one event


class Receiver:
    """The listener. ``on_closed`` is called after each association has ended; ``reports`` hears what destinations say
    about the storage commitments we asked them for, ``tell`` has those answered that we are asked for."""

    def __init__(
        self, settings: Settings, engine: Engine, associations: Associations, on_closed: Callable[[], None],
        reports: Reports, tell: Callable[[CommitmentRequest], None],
    ) -> None:  # fmt: skip
        self._associations = associations
        self._settings = settings
        self._engine = engine
        self._on_closed = on_closed
        self._told: dict[str, frozenset[str]] = {}
        self._noted: dict[tuple[str, str, str], float] = {}
        self._server: Server | None = None
        self._stopping = False
        self._admission = Admission(settings)
        receiver = settings.receiver
        self.store = Store(engine, DataFolder(settings.node.data), int(receiver.minimum_free_gb * 1e9))
        self._commitments = CommitmentServices(settings, reports, tell, self.store.settle)
        self._steps = ProcedureStepServices(engine)
        self._lane = Lane(
            receiver.maximum_pdu, receiver.network_timeout_seconds, receiver.request_timeout_seconds,
            self.store, associations, Negotiations(enabled=not receiver.user_identities),
            SharedReader(self.store) if hasattr(select, "epoll") else None,
        )  # fmt: skip
        self._ae = application_entity(settings)
        self._syntaxes = {
            str(context.abstract_syntax): frozenset(context.transfer_syntax) for context in self._ae.supported_contexts
        }

    def start(self) -> None:
        """Listen; returns at once. Raises OSError when the address cannot be had, ConfigurationError when the files of
        its TLS cannot be used."""
        receiver = self._settings.receiver
        self._server = Server(
            self._ae, (receiver.host, receiver.port), list(self._handlers()),
            lane=self._lane if receiver.fast_lane else None,
            most=self._admission.most_connections, timeout_seconds=receiver.network_timeout_seconds,
            request_seconds=receiver.request_timeout_seconds,
            tls=None if receiver.tls is None else server_context(receiver.tls),
        )  # fmt: skip
        self._server.start()

    @property
    def silence(self) -> float | None:
        """Seconds since the listener last looked for a caller; None when it does not run."""
        return self._server.silence if self._server is not None else None

    @property
    def associations(self) -> int:
        """How many stand."""
        return self._admission.standing

    def stop(self) -> None:
        """Stop listening and abort what is open: a sender keeps what was not acknowledged."""
        self._stopping = True
        self._ae.shutdown()
        if self._lane.reader is not None:
            self._lane.reader.close()
        self.store.close()

    def _handlers(self) -> Iterator[evt.EventHandlerType]:
        yield from (
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_ASYNC_OPS, lambda event: (1, 1)),  # one at a time, whatever was proposed (PS3.7 D.3.3.3)
            (evt.EVT_SOP_EXTENDED, self._extended),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_CONN_CLOSE, self._closed),
        )
        yield from self._commitments.handlers
        yield from self._steps.handlers

    # pynetdicom calls the handlers below in a thread of the association.

    def _opened(self, event: NetworkEvent) -> None:
        self._associations.opened(event.assoc)

    def _requested(self, event: NetworkEvent) -> None:
        refusal = self._admission.admit(event.assoc)
        if refusal is not None:
            event.assoc.acse.send_reject(*refusal.rejection)
            event.assoc.is_rejected = True
            event.assoc.kill()
            self._note(sender_of(event.assoc), "association refused", refusal.why)
            return
        if _known(event.assoc) is not None:
            return
        for context in event.assoc.requestor.primitive.presentation_context_definition_list:
            taken = self._syntaxes.get(str(context.abstract_syntax), frozenset())
            preferred = _preferred(context.transfer_syntax, taken)
            if preferred != context.transfer_syntax:  # which is slow to set
                context.transfer_syntax = preferred

    def _accepted(self, event: NetworkEvent) -> None:
        """Tell what is not taken: once for each caller, for some propose a hundred SOP classes every time."""
        known_before = _known(event.assoc)
        refused = refused_by(event.assoc) if known_before is None else known_before.refused
        caller = sender_of(event.assoc)
        new = refused - self._told.get(caller, frozenset())
        if not new:
            return
        self._told[caller] = self._told.get(caller, frozenset()) | refused
        known = new & self._syntaxes.keys()
        storage = {uid for uid in new - known if uid_to_service_class(uid) is StorageServiceClass}
        for uids, why in (
            (known, "none of the transfer syntaxes proposed for {} is taken"),
            (storage, "to store SOP class {} here, add it to receiver.extra_sop_classes"),
            (new - known - storage, "this node does not offer {}"),
        ):
            if uids:
                self._note(caller, *_not_accepted(uids, why))

    def _extended(self, event: NetworkEvent) -> dict[UID, bytes]:
        return {uid: _STORES_EVERYTHING for uid in event.app_info if uid in storage_classes(self._settings)}

    def _released(self, event: NetworkEvent) -> None:
        self._admission.leave(event.assoc)
        self._associations.released(event.assoc)

    def _closed(self, event: NetworkEvent) -> None:
        self._admission.leave(event.assoc)
        while not (self.store.settle(_SETTLE_SECONDS) or self._stopping):
            pass  # the database is locked: until its instances have rows, the study counts as being sent
        self._associations.closed(event.assoc)
        self._on_closed()

    def _store(self, event: NetworkEvent) -> Dataset:
        """A whole C-STORE request that pynetdicom has read: without the fast lane, and where that one is in doubt."""
        asked = event.request
        request = StoreRequest(
            event.context.context_id, asked.MessageID, str(asked.AffectedSOPClassUID), str(asked.AffectedSOPInstanceUID)
        )
        answer = self._answer(event, request, asked.DataSet.getvalue())
        response = Dataset()
        response.Status = answer.status
        if answer.comment:
            response.ErrorComment = answer.short_comment
        return response

    def _answer(self, event: NetworkEvent, request: StoreRequest, content: bytes) -> Answer:
        if not request.sop_instance_uid.isascii():
            return Answer(CANNOT_UNDERSTAND, "Affected SOP Instance UID is not a UID")
        incoming = self._lane.open(request, str(event.context.transfer_syntax))
        incoming.write(content)
        return self._lane.keep(event.assoc, request, incoming)

    def _note(self, who: str, what: str, why: str) -> None:
        """Into the log, and into the events: but the same of the same caller only now and then, for some try for days.
        """
        log.warning("%s: %s: %s", who, what, why)
        last, now = self._noted.get((who, what, why), -math.inf), time.monotonic()
        if now - last < _NOTED_AGAIN_SECONDS:
            return
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        self._noted[who, what, why] = now
        try:
            with Session(self._engine) as session, session.begin():
                session.add(Event(study_id=None, who=who, what=what, why=why))
        except SQLAlchemyError as error:
            log.error("the event could not be written: %s", error)


def _known(association: Association) -> Negotiated | None:
    """What the same request led to before."""
    return association.known if isinstance(association, FastLaneAssociation) else None


def _not_accepted(uids: Set[str], why: str) -> tuple[str, str]:
    """What an event says of SOP classes."""
    first, *more = sorted(uids, key=lambda uid: UID(uid).name)
    what = f"{UID(first).name} and {len(more)} more SOP classes are" if more else f"{UID(first).name} is"
    named = ", ".join([first, *more][:_NAMED]) + (", ..." if len(uids) > _NAMED else "")
    return f"{what} not accepted", why.format(named)


def _preferred(proposed: list[UID], taken: frozenset[UID]) -> list[UID]:
    """Of the transfer syntaxes proposed in one context, the first that we take: what the sender has to convert least
    for. pynetdicom would go by its own order, Implicit VR first, which is the one that loses something: the VRs of
    private elements. That one is taken when there is no Explicit VR Little Endian beside it."""
    possible = [uid for uid in proposed if uid in taken]
    if possible[:1] == [ImplicitVRLittleEndian] and ExplicitVRLittleEndian in possible:
        return [ExplicitVRLittleEndian]
    return possible[:1] or proposed
