"""What an association does with the data sets that come over it, whoever reads them from the network."""

from __future__ import annotations

from dataclasses import dataclass

from pynetdicom.association import Association

from node.associations import Associations
from node.receive.answer import Answer
from node.receive.command import StoreRequest
from node.receive.incoming import Incoming
from node.receive.negotiation import Negotiations
from node.receive.shared_reader import SharedReader
from node.receive.store import Store, Written


@dataclass(frozen=True)
class Lane:
    """``maximum_pdu`` in bytes; ``timeout_seconds``: of silence, and for a PDU to come whole; ``request_seconds``: for
    the association request after the connection was opened; ``reader``: None where each association is to read for
    itself."""

    maximum_pdu: int
    timeout_seconds: float
    request_seconds: float
    store: Store
    associations: Associations
    negotiations: Negotiations
    reader: SharedReader | None

    def open(self, request: StoreRequest, transfer_syntax_uid: str) -> Incoming:
        """Where a data set is to be written."""
        return self.store.open(request.sop_class_uid, request.sop_instance_uid, transfer_syntax_uid)

    def keep(self, association: Association, request: StoreRequest, incoming: Incoming) -> Answer:
        """Make it durable."""
        return self.store.keep(
            incoming, request.sop_class_uid, sender_of(association),
            lambda study_key: self.associations.brings(association, study_key),
        )  # fmt: skip

    def write(self, association: Association, request: StoreRequest, incoming: Incoming) -> Written | None:
        """The first half of that, where it needs no waiting."""
        return self.store.write(
            incoming, request.sop_class_uid, sender_of(association),
            lambda study_key: self.associations.brings(association, study_key),
        )  # fmt: skip


def sender_of(association: Association) -> str:
    """Who is calling, for the log and the tables: AE title and address."""
    requestor = association.requestor
    request = requestor.primitive
    title = requestor.ae_title or (request.calling_ae_title if request is not None else "")
    return f"{title.strip() or '?'}@{requestor.address}"
