"""Sending stored instances to another application entity by C-STORE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext, build_context

from simulator.archive.index import StoredInstance

_NO_ANSWER = "no answer"
_CONNECTION_SECONDS = 10.0


@dataclass(frozen=True)
class Peer:
    """Another application entity and where it listens."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """``AE@host:port``; raises ``ValueError`` if it is not."""
        ae_title, _, address = text.partition("@")
        host, _, port = address.rpartition(":")
        if not ae_title or len(ae_title) > 16 or not host or not port.isdigit():
            raise ValueError(f"a peer is written AE@host:port, got {text!r}")
        return cls(ae_title, host, int(port))


@dataclass(frozen=True)
class SendResult:
    """SOP Instance UIDs the peer took, and for those it did not, why."""

    sent: tuple[str, ...]
    failed: dict[str, str]


class Responses(Queue[Any]):
    """What an association that only sends has received: nobody but the one that waits for a response gets it.

    pynetdicom 3.0.4 lets its reactor take one now and then ("Received unexpected … service message").
    """

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The reactor asks without blocking. Raises queue.Empty."""
        if not block:
            raise Empty
        return super().get(block, timeout)


def send(
    instances: Sequence[StoredInstance], peer: Peer, calling_ae_title: str, per_association: int = 0
) -> SendResult:
    """Send ``per_association`` instances over each association, or all over one if it is 0.

    What the peer refuses is in the result, nothing is raised.
    """
    size = per_association or len(instances) or 1
    results = [
        _send_over_one(instances[start : start + size], peer, calling_ae_title)
        for start in range(0, len(instances), size)
    ]
    return SendResult(
        tuple(uid for result in results for uid in result.sent),
        {uid: reason for result in results for uid, reason in result.failed.items()},
    )


def _send_over_one(waiting: Sequence[StoredInstance], peer: Peer, calling_ae_title: str) -> SendResult:
    entity = AE(calling_ae_title)
    entity.connection_timeout = _CONNECTION_SECONDS
    association = entity.associate(peer.host, peer.port, contexts_for(waiting), ae_title=peer.ae_title)
    association.dimse.msg_queue = Responses()
    sent: list[str] = []
    failed: dict[str, str] = {}
    lost = None if association.is_established else "no association"
    for instance in waiting:
        reason = lost or _send_one(association, instance)
        if reason == _NO_ANSWER:
            lost = reason  # aborted or hanging: to ask on would mean to wait for every other instance as long
        if reason:
            failed[instance.sop_instance_uid] = reason
        else:
            sent.append(instance.sop_instance_uid)
    if association.is_established:
        association.release() if lost is None else association.abort()
    return SendResult(tuple(sent), failed)


def _send_one(association: object, instance: StoredInstance) -> str | None:
    """Why the peer did not take it, or None."""
    try:
        status = association.send_c_store(instance.path)  # type: ignore[attr-defined]
    except (ValueError, RuntimeError) as error:  # no presentation context accepted; association gone
        return str(error)
    if "Status" not in status:
        return _NO_ANSWER
    accepted = status.Status == 0x0000 or 0xB000 <= status.Status <= 0xBFFF  # success, or stored with a warning
    return None if accepted else f"status 0x{status.Status:04X}"


def contexts_for(instances: Iterable[StoredInstance]) -> list[PresentationContext]:
    """One presentation context for each SOP class and encoding; uncompressed ones may be converted into each other."""
    pairs = dict.fromkeys((instance.sop_class_uid, instance.transfer_syntax_uid) for instance in instances)
    contexts = []
    for sop_class, syntax in pairs:
        syntaxes = [syntax]
        if not UID(syntax).is_compressed:
            syntaxes += [s for s in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if s != syntax]
        contexts.append(build_context(sop_class, syntaxes))
    return contexts[:128]  # as many as one association can carry (PS3.8 9.3.2.2)
