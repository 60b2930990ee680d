"""Query/Retrieve SCU, study root (PS3.4 Annex C): what a peer holds, and having it sent to us by C-MOVE or C-GET."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove

from node.association import MEDIUM, Peer, associate, entity
from node.header.elements import Elements
from node.sender import NotOfferedError
from node.source import (
    InstanceFound,
    Part,
    RetrieveError,
    SeriesFound,
    Stopped,
    StoppedError,
    StudyFound,
    count_told,
)

_FIND, _MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
_PENDING = (0xFF00, 0xFF01)  # more responses follow (PS3.4 C.4.1.1.4, C.4.2.1.5)
_OF_A_STUDY = (
    "StudyInstanceUID", "AccessionNumber", "StudyDate", "StudyDescription", "ModalitiesInStudy", "PatientID",
    "IssuerOfPatientID",
)  # fmt: skip

Answers = Iterator[tuple[Dataset, Dataset | None]]
"""pynetdicom's responses to one request: the status, empty when none came in time, and the identifier."""


class QueryScu:
    """An open association for C-FIND; a context manager (``node.source.Search``). ``total_seconds`` bounds each
    request: every pending response begins the DIMSE timeout anew, so a peer that sends them for ever would never end.
    """

    def __init__(self, peer: Peer, total_seconds: float) -> None:
        self._peer = peer
        self._total = total_seconds
        self._ae = entity(peer)
        self._ae.add_requested_context(_FIND)
        self._association: Association | None = None
        self._begin("C-FIND")

    def __enter__(self) -> Self:
        self._association = self._associate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()

    @property
    def proposed(self) -> list[PresentationContext]:
        """What it asks an association for."""
        return list(self._ae.requested_contexts)

    def studies(self, keys: Dataset) -> list[StudyFound]:
        """The studies that match the keys (PS3.4 C.6.2.1). Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        for keyword in _OF_A_STUDY:
            setattr(query, keyword, keys.get(keyword, "") or "")
        for element in keys:
            query[element.tag] = element
        if not all(str(element.value).isascii() for element in keys):
            query.SpecificCharacterSet = "ISO_IR 192"
        return [
            StudyFound(
                found.text("StudyInstanceUID"), found.text("AccessionNumber"), found.text("StudyDate"),
                found.text("StudyDescription"), found.texts("ModalitiesInStudy"), found.text("PatientID"),
                found.text("IssuerOfPatientID"),
            )
            for found in self._find(query, "StudyInstanceUID")
        ]  # fmt: skip

    def series(self, study_instance_uid: str) -> list[SeriesFound]:
        """Every series of a study. Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = study_instance_uid
        query.SeriesInstanceUID = query.Modality = query.NumberOfSeriesRelatedInstances = ""
        return [
            SeriesFound(
                found.text("SeriesInstanceUID"), found.text("Modality"),
                count_told(found.text("NumberOfSeriesRelatedInstances")),
            )
            for found in self._find(query, "SeriesInstanceUID")
        ]  # fmt: skip

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[InstanceFound]:
        """Every instance of a series. Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = study_instance_uid, series_instance_uid
        query.SOPInstanceUID = query.SOPClassUID = ""
        return [
            InstanceFound(found.text("SOPInstanceUID"), found.text("SOPClassUID"))
            for found in self._find(query, "SOPInstanceUID")
        ]  # fmt: skip

    def _associate(self) -> Association:
        return associate(self._ae, self._peer)

    def _find(self, query: Dataset, key: str) -> Iterator[Elements]:
        """The matches, each with a value of its unique ``key`` (PS3.4 C.4.1.1.3.2). One that cannot be read, or was cut
        short, is an error: without it there would seem to be less than there is."""
        self._begin("C-FIND")
        try:
            for status, identifier in self._open().send_c_find(query, _FIND, priority=MEDIUM):
                self._go_on()
                if "Status" not in status:
                    raise RetrieveError(f"{self._peer} did not answer the C-FIND")
                if status.Status in _PENDING:
                    found = Elements(identifier or Dataset())
                    if found.text(key):
                        yield found
                    else:
                        raise RetrieveError(f"{self._peer} answered the C-FIND with a match that cannot be read")
                elif status.Status != 0x0000:
                    comment = status.get("ErrorComment", "")
                    raise RetrieveError(f"{self._peer} answered the C-FIND 0x{status.Status:04X} {comment}".rstrip())
        except ValueError as error:  # pynetdicom's way to say that no presentation context was accepted for it
            raise NotOfferedError(f"{self._peer} offers no C-FIND") from error
        except RuntimeError as error:
            raise RetrieveError(f"{self._peer} ended the association: {error}") from error

    def _open(self) -> Association:
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        if not self._association.is_established:
            raise RetrieveError(f"{self._peer} ended the association")
        return self._association

    def _begin(self, request: str, stopped: Stopped = lambda: False) -> None:
        self._request, self._stopped, self._end = request, stopped, time.monotonic() + self._total
        self._halt: StoppedError | RetrieveError | None = None

    def _go_on(self) -> None:
        """Raises what the request is to end with, if it is; again the next time, for a handler of pynetdicom's cannot
        raise anything through to us. The abort ends the peer's work at once, unlike C-CANCEL, which is a wish."""
        if self._halt is None and self._stopped():
            self._halt = StoppedError()
        if self._halt is None and time.monotonic() > self._end:
            self._halt = RetrieveError(f"{self._peer} did not finish the {self._request} within {self._total:g} s")
        if self._halt is not None:
            if self._association is not None and self._association.is_established:
                self._association.abort()
            raise self._halt


class RetrieveScu(QueryScu, ABC):
    """What C-MOVE and C-GET have in common (``node.source.Retrieval``)."""

    service = ""

    def retrieve(self, part: Part, stopped: Stopped = lambda: False) -> str:
        """As ``node.source.Retrieval`` has it: returns what the peer complains of, raises where it does not end."""
        self._begin(self.service, stopped)
        try:
            for status, _ in self._ask(self._open(), _identifier(part)):
                self._go_on()
                if "Status" not in status:
                    raise RetrieveError(f"{self._peer} ended the {self.service} without an answer")
                if status.Status not in _PENDING:
                    return _said(status)
        except ValueError as error:
            raise NotOfferedError(f"{self._peer} offers no {self.service}") from error
        except RuntimeError as error:
            raise RetrieveError(f"{self._peer} ended the association: {error}") from error
        raise RetrieveError(f"{self._peer} gave no final answer to the {self.service}")

    @abstractmethod
    def _ask(self, association: Association, identifier: Dataset) -> Answers:
        """Send the request; the responses as they come."""


class MoveScu(RetrieveScu):
    """C-MOVE: the peer opens associations of its own to the AE title, which it has to know."""

    service = "C-MOVE"

    def __init__(self, peer: Peer, total_seconds: float, to_ae_title: str) -> None:
        super().__init__(peer, total_seconds)
        self._to = to_ae_title
        self._ae.add_requested_context(_MOVE)

    def _ask(self, association: Association, identifier: Dataset) -> Answers:
        return association.send_c_move(  # type: ignore[no-any-return]
            identifier, self._to, _MOVE, priority=MEDIUM
        )


def _identifier(part: Part) -> Dataset:
    """The unique keys of a C-MOVE or C-GET (PS3.4 C.4.2.1.4)."""
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE" if part.sop_instance_uids else "SERIES" if part.series_instance_uid else "STUDY"
    query.StudyInstanceUID = part.study_instance_uid
    if part.series_instance_uid:
        query.SeriesInstanceUID = part.series_instance_uid
    if part.sop_instance_uids:
        query.SOPInstanceUID = list(part.sop_instance_uids)
    return query


def _said(status: Dataset) -> str:
    """A final response in words, "" for a success of everything (PS3.4 tables C.4-2 and C.4-3)."""
    failed = status.get("NumberOfFailedSuboperations") or 0
    if status.Status == 0x0000 and not failed:
        return ""
    if status.Status == 0xA801:
        return "0xA801: it does not know our AE title as a move destination; enter this node there"
    comment = status.get("ErrorComment", "")
    return f"0x{status.Status:04X} {comment}".rstrip() + (f", {failed} sub-operations failed" if failed else "")
