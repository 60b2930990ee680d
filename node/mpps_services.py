"""The listener's part in Modality Performed Procedure Step: the service class provider (PS3.4 F.7)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydicom.dataset import Dataset
from pynetdicom import evt
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.database import writing
from node.mpps import RESOURCE_LIMITATION, StepError, create, update

log = logging.getLogger(__name__)


Answer = tuple[Dataset, None]


class ProcedureStepServices:
    """What a listener needs to be told what modalities perform. Success says that it is committed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        return [(evt.EVT_N_CREATE, self._created), (evt.EVT_N_SET, self._set)]

    def _created(self, event: evt.Event) -> Answer:
        requestor = event.assoc.requestor
        uid = str(event.request.AffectedSOPInstanceUID or "")
        sender = f"{requestor.ae_title.strip()}@{requestor.address}"
        return self._answer(event, lambda session: create(session, uid, event.attribute_list, sender))

    def _set(self, event: evt.Event) -> Answer:
        uid = str(event.request.RequestedSOPInstanceUID or "")
        return self._answer(event, lambda session: update(session, uid, event.modification_list))

    def _answer(self, event: evt.Event, write: Callable[[Session], None]) -> Answer:
        status, caller = Dataset(), event.assoc.requestor.ae_title
        try:
            with writing(self._engine) as session:
                write(session)
        except StepError as error:
            log.warning("%s: a performed procedure step is not taken: %s", caller, error)
            status.Status, status.ErrorComment = error.status, str(error)[:64]
            if error.error_id is not None:
                status.ErrorID = error.error_id
            return status, None
        except SQLAlchemyError as error:
            log.error("%s: a performed procedure step was not recorded: %s", caller, error)
            status.Status = RESOURCE_LIMITATION
            return status, None
        status.Status = 0x0000
        return status, None
