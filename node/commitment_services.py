"""The listener's part in storage commitment (PS3.4 Annex J): hearing results, and being asked for what was sent to us.

What is asked is answered later (node.commitment_results).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pydicom.dataset import Dataset
from pynetdicom import evt
from sqlalchemy.exc import SQLAlchemyError

from node.commit import Reports
from node.settings import DimseDestination, PeerSettings, Settings

log = logging.getLogger(__name__)

SUCCESS, PROCESSING_FAILURE, NO_SUCH_OBJECT = 0x0000, 0x0110, 0x0112  # PS3.7 Annex C.5
MISSING_ATTRIBUTE, NOT_AUTHORISED = 0x0120, 0x0124
_SETTLE_SECONDS = 10.0

Answer = tuple[int, None]


@dataclass(frozen=True)
class CommitmentRequest:
    """What a peer asked (PS3.4 table J.3-1); ``references``: SOP Class and SOP Instance UIDs."""

    ae_title: str
    transaction_uid: str
    references: Sequence[Sequence[str]]

    @classmethod
    def read(cls, ae_title: str, information: Dataset) -> Self | None:
        """From the Action Information; None where it lacks something of Type 1."""
        asked = information.get("ReferencedSOPSequence") or []
        references = [(item.get("ReferencedSOPClassUID"), item.get("ReferencedSOPInstanceUID")) for item in asked]
        transaction = information.get("TransactionUID")
        if not transaction or not references or not all(all(pair) for pair in references):
            return None
        return cls(ae_title, str(transaction), [(str(of_class), str(instance)) for of_class, instance in references])


class CommitmentServices:
    """What a listener needs for storage commitment, both ways. ``tell`` has a result told, durably, and raises
    SQLAlchemyError; ``settle`` waits, at most so many seconds, until what was acknowledged has its rows."""

    def __init__(
        self, settings: Settings, reports: Reports, tell: Callable[[CommitmentRequest], None],
        settle: Callable[[float], bool],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._reports = reports
        self._tell = tell
        self._settle = settle

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        return [(evt.EVT_N_EVENT_REPORT, self._reported), (evt.EVT_N_ACTION, self._asked)]

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
        if address_of(caller, self._settings) is None:
            log.warning("%s asks for storage commitment, but no [[peer]] says where to answer it", caller)
            return NOT_AUTHORISED, None
        request = CommitmentRequest.read(caller, event.action_information)
        if request is None:
            return MISSING_ATTRIBUTE, None
        if not self._settle(_SETTLE_SECONDS):
            log.error("the storage commitment that %s asked for was not noted: rows cannot be written now", caller)
            return PROCESSING_FAILURE, None
        try:
            self._tell(request)
        except SQLAlchemyError as error:
            log.error("the storage commitment that %s asked for was not noted: %s", caller, error)
            return PROCESSING_FAILURE, None
        return SUCCESS, None


def address_of(ae_title: str, settings: Settings) -> PeerSettings | None:
    """Where an AE title listens, from [[peer]], else from the destinations."""
    for peer in settings.peer:
        if peer.ae_title == ae_title:
            return peer
    for place in settings.destination:
        if isinstance(place, DimseDestination) and place.ae_title == ae_title:
            return PeerSettings(ae_title=ae_title, host=place.host, port=place.port, tls=place.tls)
    return None

