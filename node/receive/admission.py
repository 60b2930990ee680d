"""Who may open an association, and how many at once (DICOM PS3.8 section 9.3.4)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from node.receive.users import Users
from node.settings import Settings

Rejection = tuple[int, int, int]
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
CALLED_UNKNOWN: Rejection = (1, 1, 7)
CALLING_UNKNOWN: Rejection = (1, 1, 3)
USER_REFUSED: Rejection = (1, 2, 1)
LIMIT_EXCEEDED: Rejection = (2, 3, 2)
CONNECTIONS_WITHOUT_ASSOCIATION = 64


@dataclass(frozen=True)
class Refusal:
    """Why an association is refused, for the caller and for a person."""

    rejection: Rejection
    why: str


class Admission:
    """Counts the associations that stand. Many threads ask; an association that has ended no longer counts.

    Raises ConfigurationError when the file of users cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._node = settings.node
        self._receiver = settings.receiver
        users = settings.receiver.user_identities
        self._users = Users.load(Path(users)) if users else None
        self._lock = threading.Lock()
        self._admitted: list[Association] = []

    def admit(self, association: Association) -> Refusal | None:
        """Give the association that has just been requested a slot, or the reason why it gets none."""
        request, address = association.requestor.primitive, association.requestor.address
        refusal = self._stranger(request.called_ae_title.strip(), request.calling_ae_title.strip(), address)
        if refusal is not None:
            return refusal
        if self._users is not None:
            identity = association.requestor.user_identity
            why = self._users.why_not(identity)
            if why is not None:
                return Refusal(USER_REFUSED, f"{why} (receiver.user_identities)")
            if identity.positive_response_requested:
                association.acceptor.add_negotiation_item(_confirmation())
        with self._lock:
            refusal = self._too_many(request.calling_ae_title.strip())
            if refusal is None:
                self._admitted.append(association)
        return refusal

    def leave(self, association: Association) -> None:
        """It has ended. Telling it twice, or of one that was never admitted, is harmless."""
        with self._lock:
            self._admitted = [one for one in self._admitted if one is not association]

    @property
    def standing(self) -> int:
        """Associations that stand."""
        with self._lock:
            return sum(one.is_alive() for one in self._admitted)

    @property
    def most_connections(self) -> int:
        """Connections at once, with or without an association: beyond, they are closed before they say anything."""
        return self._receiver.maximum_associations + CONNECTIONS_WITHOUT_ASSOCIATION

    def _stranger(self, called: str, calling: str, address: str) -> Refusal | None:
        if called != self._node.ae_title:
            why = f"called AE title {called!r}, but this node is {self._node.ae_title!r}"
            return Refusal(CALLED_UNKNOWN, why)
        callers = self._receiver.calling_ae_titles
        if any(_is(calling, address, caller) for caller in callers):
            return None
        why = f"calling AE title {calling!r} at {address}: this node takes from {', '.join(callers)}"
        return Refusal(CALLING_UNKNOWN, f"{why} (receiver.calling_ae_titles)")

    def _too_many(self, calling: str) -> Refusal | None:
        self._admitted = [one for one in self._admitted if one.is_alive()]
        if len(self._admitted) >= self._receiver.maximum_associations:
            why = f"there are {len(self._admitted)} associations already (receiver.maximum_associations)"
            return Refusal(LIMIT_EXCEEDED, why)
        of_peer = sum(one.requestor.primitive.calling_ae_title.strip() == calling for one in self._admitted)
        if of_peer >= self._receiver.maximum_associations_per_peer:
            why = f"{calling!r} has {of_peer} associations already (receiver.maximum_associations_per_peer)"
            return Refusal(LIMIT_EXCEEDED, why)
        return None


def _confirmation() -> UserIdentityNegotiation:
    """The answer to a user identity of type 2, of no length (PS3.7 table D.3-15)."""
    item = UserIdentityNegotiation()
    item.server_response = b""
    return item


def _is(calling: str, address: str, caller: str) -> bool:
    """Whether an entry of calling_ae_titles means this caller: "PACS", or "PACS@address"."""
    title, at, only_from = caller.partition("@")
    return title == calling and (not at or ip_address(only_from) == ip_address(address.partition("%")[0]))
