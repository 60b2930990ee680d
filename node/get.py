"""C-GET (PS3.4 C.4.3): instances come over the association that we opened, so that the peer need not know where we
listen, nor a firewall let it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from itertools import islice, product
from types import TracebackType
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet

from node.association import MEDIUM, Peer, StorageScp, associate
from node.query import Answers, RetrieveScu
from node.receive.incoming import Incoming
from node.sender import NotOfferedError
from node.source import RetrieveError, StoppedError
from node.taker import Taker

if TYPE_CHECKING:
    from typing_extensions import Buffer

_FIND, _GET = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
_MOST_CONTEXTS = 128  # of an association: their numbers are odd and below 256 (PS3.8 9.3.2.2)
_CANCELLED = 0xA700  # nobody hears it: the association is being aborted
# The likelier first.
_SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless,
    JPEGLossless, JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, DeflatedExplicitVRLittleEndian,
    HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, ExplicitVRBigEndian,
)  # fmt: skip


def contexts_for(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """What an association for C-FIND and C-GET of these SOP classes asks for, as far as there is room.

    One context for each syntax and class, so that an instance comes as it lies there: of several syntaxes in one
    context the peer takes one for all instances, and has to convert the others or leaves them out.
    """
    own = [build_context(_FIND), build_context(_GET)]
    stored = islice(product(_SYNTAXES, sop_classes), _MOST_CONTEXTS - len(own))
    return [*own, *(build_context(sop_class, syntax) for syntax, sop_class in stored)]


class _OnDisk(BytesIO):
    """A data set as pynetdicom 3.0.4 wants one to write fragments to, which goes where the receiver's go. Its own way
    to spare the memory is for all associations of a process, and leaves files behind where one is aborted."""

    def __init__(self, incoming: Incoming) -> None:
        super().__init__()
        self.incoming = incoming

    def write(self, fragment: Buffer) -> int:
        """As BytesIO."""
        view = memoryview(fragment)
        self.incoming.write(view)
        return len(view)


class GetScu(RetrieveScu):
    """An open association for C-FIND and C-GET of these SOP classes; what comes goes to ``taker``."""

    service = "C-GET"

    def __init__(
        self, peer: Peer, total_seconds: float, sop_classes: Sequence[str], maximum_pdu: int, taker: Taker
    ) -> None:
        super().__init__(peer, total_seconds)
        self._taker = taker
        self._coming: set[Incoming] = set()
        self._sop_classes = sop_classes
        self._ae.maximum_pdu_size = maximum_pdu
        self._ae.requested_contexts = []  # or pynetdicom keeps what is there, and adds to it
        self._ae.requested_contexts = contexts_for(sop_classes)

    def _associate(self) -> Association:
        association = associate(self._ae, self._peer, storage=StorageScp(self._sop_classes, self._store))
        dimse = association.dimse
        dimse.receive_primitive = partial(self._receive, association, dimse.receive_primitive)
        return association

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for incoming in list(self._coming):  # the association has ended in the middle of it
            incoming.close()

    def _receive(self, association: Association, receive: Callable[[P_DATA], None], fragments: P_DATA) -> None:
        """What pynetdicom does with a P-DATA primitive, in its own thread; but a data set that goes on behind it is put
        together on the disk."""
        receive(fragments)
        message = association.dimse.message
        if not isinstance(message, C_STORE_RQ) or isinstance(message.data_set, _OnDisk):
            return
        incoming = self._open_for(association, message)
        if incoming is not None:
            self._coming.add(incoming)
            incoming.write(message.data_set.getbuffer())
            message.data_set = _OnDisk(incoming)

    def _open_for(self, association: Association, request: C_STORE_RQ) -> Incoming | None:
        """None where the request is not in order, which pynetdicom or the taker says once it is there as a whole."""
        contexts = {context.context_id: context for context in association.accepted_contexts}
        syntax = contexts[request.context_id].transfer_syntax[0] if request.context_id in contexts else ""
        asked = request.command_set
        sop_class, sop_instance = asked.get("AffectedSOPClassUID", ""), asked.get("AffectedSOPInstanceUID", "")
        return self._taker.open(str(sop_class), str(sop_instance), str(syntax))

    def _ask(self, association: Association, identifier: Dataset) -> Answers:
        if not any(context.as_scp for context in association.accepted_contexts):
            why = "it accepts none of our storage classes with the roles swapped (SCP/SCU role selection)"
            raise NotOfferedError(f"{self._peer} cannot send by C-GET: {why}")
        return association.send_c_get(identifier, _GET, priority=MEDIUM)  # type: ignore[no-any-return]

    def _store(self, event: evt.Event) -> Dataset:
        """One C-STORE sub-operation, within ``send_c_get``."""
        response = Dataset()
        try:
            self._go_on()
        except (StoppedError, RetrieveError):  # which ``retrieve`` raises again
            response.Status = _CANCELLED
            return response
        asked = event.request
        sop_class = str(asked.AffectedSOPClassUID)
        if isinstance(asked.DataSet, _OnDisk):
            self._coming.discard(asked.DataSet.incoming)
            answer = self._taker.keep(sop_class, asked.DataSet.incoming)
        else:
            answer = self._taker.take(
                sop_class, str(asked.AffectedSOPInstanceUID), str(event.context.transfer_syntax),
                (asked.DataSet.getbuffer(),),
            )  # fmt: skip
        response.Status = answer.status
        if answer.comment:
            response.ErrorComment = answer.short_comment
        return response
