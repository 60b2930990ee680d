"""Query/Retrieve SCU, study root (PS3.4 Annex C): what a peer holds, and having it sent to us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove

from node.scu import Peer, associate, entity
from node.sender import NotOfferedError, SendError

_FIND, _MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00


class RetrieveError(SendError):
    """The peer could not be asked, or did not do what was asked; the text says why."""


class StoppedError(Exception):
    """Somebody called the retrieval off while it ran."""


@dataclass(frozen=True)
class StudyFound:
    """A study that a peer holds, as its C-FIND answer says; texts are empty where it does not say."""

    study_instance_uid: str
    accession_number: str
    study_date: str
    description: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class SeriesFound:
    """A series that a peer holds; ``instances`` is how many of it (0020,1209), None where it does not say."""

    series_instance_uid: str
    modality: str
    instances: int | None


@dataclass(frozen=True)
class InstanceFound:
    """An instance that a peer holds; ``sop_class_uid`` is empty where it does not say."""

    sop_instance_uid: str
    sop_class_uid: str


class QueryRetrieveScu:
    """An open association for C-FIND and C-MOVE; a context manager. ``total_seconds`` bounds each C-MOVE: the peer's
    pending responses keep the DIMSE timeout from ever ending one that does not move."""

    def __init__(self, peer: Peer, total_seconds: float) -> None:
        self._peer = peer
        self._total = total_seconds
        self._ae = entity(peer)
        self._ae.add_requested_context(_FIND)
        self._ae.add_requested_context(_MOVE)
        self._association: Association | None = None

    def __enter__(self) -> QueryRetrieveScu:
        self._association = associate(self._ae, self._peer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()

    def studies(self, keys: Dataset) -> list[StudyFound]:
        """The studies that match the keys (PS3.4 C.6.2.1). Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        for keyword in ("StudyInstanceUID", "AccessionNumber", "StudyDate", "StudyDescription", "ModalitiesInStudy"):
            setattr(query, keyword, keys.get(keyword, "") or "")
        for element in keys:
            query[element.tag] = element
        return [
            StudyFound(
                str(found.StudyInstanceUID), str(found.get("AccessionNumber") or ""),
                str(found.get("StudyDate") or ""), str(found.get("StudyDescription") or ""),
                _texts(found.get("ModalitiesInStudy")),
            )
            for found in self._find(query) if found.get("StudyInstanceUID")
        ]  # fmt: skip

    def series(self, study_instance_uid: str) -> list[SeriesFound]:
        """Every series of a study. Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = study_instance_uid
        query.SeriesInstanceUID = query.Modality = query.NumberOfSeriesRelatedInstances = ""
        return [
            SeriesFound(
                str(found.SeriesInstanceUID), str(found.get("Modality") or ""),
                _number(found.get("NumberOfSeriesRelatedInstances")),
            )
            for found in self._find(query) if found.get("SeriesInstanceUID")
        ]  # fmt: skip

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[InstanceFound]:
        """Every instance of a series. Raises RetrieveError or NotOfferedError."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = study_instance_uid, series_instance_uid
        query.SOPInstanceUID = query.SOPClassUID = ""
        return [
            InstanceFound(str(found.SOPInstanceUID), str(found.get("SOPClassUID") or ""))
            for found in self._find(query) if found.get("SOPInstanceUID")
        ]  # fmt: skip

    def move(
        self, to_ae_title: str, study: str, series: str = "", instances: Sequence[str] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> str:
        """C-MOVE of a study, one of its series, or some of its instances to an AE title. Returns what the final answer
        says went wrong, "" for success: it is for the log, for only what arrives counts.

        Raises RetrieveError when there is no final answer in time, StoppedError once ``stopped`` says so.
        """
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE" if instances else "SERIES" if series else "STUDY"
        query.StudyInstanceUID = study
        if series:
            query.SeriesInstanceUID = series
        if instances:
            query.SOPInstanceUID = list(instances)
        association, end = self._open(), time.monotonic() + self._total
        try:
            for status, _ in association.send_c_move(query, to_ae_title, _MOVE):
                if "Status" not in status:
                    raise RetrieveError(f"{self._peer} ended the C-MOVE without an answer")
                if status.Status not in _PENDING:
                    return _said(status)
                if stopped():
                    association.abort()  # ends its sub-operations at once, unlike C-CANCEL, which is a wish
                    raise StoppedError
                if time.monotonic() > end:
                    association.abort()
                    raise RetrieveError(f"{self._peer} did not finish the C-MOVE within {self._total:g} s")
        except ValueError as error:
            raise NotOfferedError(f"{self._peer} offers no C-MOVE") from error
        except RuntimeError as error:
            raise RetrieveError(f"{self._peer} ended the association: {error}") from error
        raise RetrieveError(f"{self._peer} gave no final answer to the C-MOVE")

    def _find(self, query: Dataset) -> Iterator[Dataset]:
        try:
            for status, identifier in self._open().send_c_find(query, _FIND):
                if "Status" not in status:
                    raise RetrieveError(f"{self._peer} did not answer the C-FIND")
                if status.Status in _PENDING and identifier is not None:
                    yield identifier
                elif status.Status not in (*_PENDING, 0x0000):
                    comment = status.get("ErrorComment", "")
                    raise RetrieveError(f"{self._peer} answered the C-FIND 0x{status.Status:04X} {comment}".rstrip())
        except ValueError as error:
            raise NotOfferedError(f"{self._peer} offers no C-FIND") from error
        except RuntimeError as error:
            raise RetrieveError(f"{self._peer} ended the association: {error}") from error

    def _open(self) -> Association:
        assert self._association is not None  # noqa: S101 - used outside `with`: a programmer's error
        if not self._association.is_established:
            raise RetrieveError(f"{self._peer} ended the association")
        return self._association


def _said(status: Dataset) -> str:
    failed = status.get("NumberOfFailedSuboperations") or 0
    if status.Status == 0x0000 and not failed:
        return ""
    if status.Status == 0xA801:
        return "0xA801: it does not know our AE title as a move destination; enter this node there"
    comment = status.get("ErrorComment", "")
    return f"0x{status.Status:04X} {comment}".rstrip() + (f", {failed} sub-operations failed" if failed else "")


def _number(value: object) -> int | None:
    text = "" if value is None else str(value)
    return int(text) if text.isdecimal() else None


def _texts(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(str(one) for one in value)  # type: ignore[attr-defined]
