"""Which presentation contexts the node accepts and proposes: asked of the code that does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from node.association import Peer
from node.conformance.markdown import named, table
from node.derive.series import SOP_CLASSES
from node.get import contexts_for
from node.query import MoveScu
from node.receive.application import application_entity, storage_classes
from node.scu import StorageScu
from node.sender import Outgoing
from node.settings import Settings

RETRIEVE_BY_GET = "Query, and retrieve by C-GET"
SOMEBODY = Peer("PEER", "127.0.0.1", 104, "US")


@dataclass(frozen=True)
class Service:
    """A SOP class on the wire, the transfer syntaxes for it in order, and our part: SCU, SCP or both."""

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool
    scp: bool


def accepted(settings: Settings) -> list[Service]:
    """By the listener. Where no role is negotiated, the requestor is the SCU and we are the SCP."""
    return [
        Service(str(one.abstract_syntax), tuple(map(str, one.transfer_syntax)), scu=bool(one.scp_role), scp=True)
        for one in application_entity(settings).supported_contexts
    ]


def proposed(settings: Settings) -> dict[str, list[Service]]:
    """By what the node begins itself, under the name of the activity."""
    made = [Outgoing(Path(kind), uid, "1.2.3", ExplicitVRLittleEndian) for kind, uid in SOP_CLASSES.items()]
    deliver = StorageScu(SOMEBODY, made, find=True, report=lambda report: None)
    move = MoveScu(SOMEBODY, settings.retrieval.total_seconds, settings.node.ae_title)
    stored = storage_classes(settings)
    get = contexts_for(stored)
    return {
        "Deliver a result, and have it confirmed": _services(deliver.proposed),
        "Answer a request for storage commitment": _services([build_context(StorageCommitmentPushModel)], as_scp=True),
        "Query, and retrieve by C-MOVE": _services(move.proposed),
        RETRIEVE_BY_GET: [
            *_services(one for one in get if one.abstract_syntax not in stored),
            *_services((one for one in get if one.abstract_syntax in stored), as_scp=True),
        ],
        "Verify": _services([build_context(Verification)]),
    }


def _services(contexts: Iterable[PresentationContext], *, as_scp: bool = False) -> list[Service]:
    """Contexts of one SOP class together, in the order in which they are proposed."""
    syntaxes: dict[str, list[str]] = {}
    for one in contexts:
        syntaxes.setdefault(str(one.abstract_syntax), []).extend(map(str, one.transfer_syntax))
    return [
        Service(uid, tuple(dict.fromkeys(those)), scu=not as_scp, scp=as_scp) for uid, those in syntaxes.items()
    ]


def contexts(services: Iterable[Service]) -> str:
    """A table of presentation contexts; more transfer syntaxes than a cell holds have a table of their own."""
    return table(("Abstract syntax", "UID", "Transfer syntaxes", "our role"), [
        (named(one.sop_class_uid), f"`{one.sop_class_uid}`", _in_a_cell(one.transfer_syntaxes),
         " and ".join(role for role, plays in (("SCU", one.scu), ("SCP", one.scp)) if plays))
        for one in services
    ])  # fmt: skip


def _in_a_cell(transfer_syntaxes: tuple[str, ...]) -> str:
    if len(transfer_syntaxes) > _IN_A_CELL:
        return f"{len(transfer_syntaxes)}, listed below"
    return ", ".join(map(named, transfer_syntaxes))


_IN_A_CELL = 6
