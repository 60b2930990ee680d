"""Retrieving by DICOMweb: QIDO-RS to ask, WADO-RS to fetch (PS3.18 sections 10.6 and 10.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import requests
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from node.dicomweb import WebPeer, WebServer, status_of, text, texts
from node.multipart import Multipart, MultipartError, boundary_of
from node.part10 import Part10Error, split
from node.receive.answer import SUCCESS
from node.source import (
    InstanceFound,
    Part,
    RetrieveError,
    SeriesFound,
    Stopped,
    StoppedError,
    StudyFound,
    count_told,
    is_uid,
)
from node.taker import Taker

_ASKED_FOR = {
    # Any transfer syntax: nothing is to be converted (PS3.18 section 8.7.3.5.2).
    "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*',
    "Accept-Encoding": "identity",  # a few kilobytes of gzip may be gigabytes
}
_CHUNK_BYTES = 1 << 16  # what came of a chunk before the connection broke is lost
_MORE_RESULTS = re.compile(r"\badditional results\b", re.IGNORECASE)  # a warning 299 may be of other things
_STUDY, _SERIES, _INSTANCE, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_ACCESSION, _DATE, _DESCRIPTION, _MODALITIES = "00080050", "00080020", "00081030", "00080061"
_MODALITY, _SERIES_INSTANCES = "00080060", "00201209"
_PATIENT_ID, _ISSUER = "00100020", "00100021"
_OF_A_STUDY = ["StudyDescription", "ModalitiesInStudy", "IssuerOfPatientID"]  # what is not told without being asked

_Row = dict[str, Any]
_Found = TypeVar("_Found")


class QidoSearch(WebPeer):
    """Asks a DICOMweb server by QIDO-RS (``node.source.Search``). ``total_seconds`` bounds each question."""

    def __init__(self, server: WebServer, total_seconds: float) -> None:
        super().__init__(server)
        self._total = total_seconds
        self._warning = ""  # of the last answer
        self._session.hooks["response"].append(self._note_warning)

    def studies(self, keys: Dataset) -> list[StudyFound]:
        """The studies that match the keys. Raises RetrieveError or NotOfferedError."""
        filters = {element.keyword: _filter(element.value) for element in keys}
        return self._all(
            _STUDY,
            lambda offset: self._client.search_for_studies(offset=offset, fields=_OF_A_STUDY, search_filters=filters),
            lambda uid, row: StudyFound(
                uid, text(row, _ACCESSION), text(row, _DATE), text(row, _DESCRIPTION),
                tuple(one for one in texts(row, _MODALITIES) if one), text(row, _PATIENT_ID), text(row, _ISSUER),
            ),
        )  # fmt: skip

    def series(self, study_instance_uid: str) -> list[SeriesFound]:
        """Every series of a study. Raises RetrieveError or NotOfferedError."""
        return self._all(
            _SERIES,
            lambda offset: self._client.search_for_series(
                study_instance_uid, offset=offset, fields=["NumberOfSeriesRelatedInstances"]
            ),
            lambda uid, row: SeriesFound(uid, text(row, _MODALITY), count_told(text(row, _SERIES_INSTANCES))),
            within=study_instance_uid,
        )

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[InstanceFound]:
        """Every instance of a series. Raises RetrieveError or NotOfferedError."""
        return self._all(
            _INSTANCE,
            lambda offset: self._client.search_for_instances(study_instance_uid, series_instance_uid, offset=offset),
            lambda uid, row: InstanceFound(uid, text(row, _SOP_CLASS)),
            within=study_instance_uid,
        )

    def _all(
        self,
        tag: str,
        search: Callable[[int], Sequence[_Row]],
        found_in: Callable[[str, _Row], _Found],
        within: str = "",
    ) -> list[_Found]:
        """Every result, each UID once. ``within``: the study that is looked into, "" for none."""
        try:
            with self._session.within(self._total):
                try:
                    return [found_in(uid, row) for uid, row in self._pages(tag, search).items()]
                except requests.HTTPError as error:
                    if not self._holds_nothing(error, within):
                        raise
                    return []
        except requests.HTTPError as error:
            raise RetrieveError(f"{self._url} answered the search {status_of(error)}") from error
        except requests.RequestException as error:
            raise RetrieveError(f"{self._url} cannot be reached: {self._trouble(error)}") from error
        except (AttributeError, TypeError, ValueError, RecursionError) as error:  # the last: JSON without end
            raise RetrieveError(f"{self._url} was asked or answered something else than QIDO-RS: {error}") from error

    def _pages(self, tag: str, search: Callable[[int], Sequence[_Row]]) -> dict[str, _Row]:
        """Page after page until one has nothing new: a server may answer with a part of them, of which a warning tells
        (PS3.18 section 8.3.4.4), and may not know ``offset``. Raises RetrieveError where it does neither whole."""
        rows: dict[str, _Row] = {}
        partial = ""
        while new := {uid: row for row in search(len(rows)) if (uid := _uid_of(row, tag)) not in rows}:
            rows |= new
            partial = self._warning if _MORE_RESULTS.search(self._warning) else ""
        if partial:
            raise RetrieveError(
                f"{self._url} tells {len(rows)} results and keeps back the others ({partial[:100]!r}): it does not "
                "know the parameter offset; raise its limit"
            )
        return rows

    def _note_warning(self, answer: requests.Response, **_: object) -> None:
        self._warning = answer.headers.get("Warning", "")


class WadoSource(QidoSearch):
    """Asks by QIDO-RS and fetches by WADO-RS (``node.source.Retrieval``): instances of ``sop_classes`` go to ``taker``
    as they come, byte for byte. ``total_seconds`` bounds each retrieval, from the first request on."""

    def __init__(self, server: WebServer, total_seconds: float, sop_classes: Collection[str], taker: Taker) -> None:
        super().__init__(server, total_seconds)
        self._sop_classes = sop_classes
        self._taker = taker

    def retrieve(self, part: Part, stopped: Stopped = lambda: False) -> str:
        said = ""
        try:
            with self._session.within(self._total):
                for address in _addresses(part):
                    said = self._fetch(address, stopped) or said
        except requests.RequestException as error:
            raise RetrieveError(f"the retrieval from {self._url} failed: {self._trouble(error)}") from error
        except MultipartError as error:
            raise RetrieveError(f"what {self._url} sent cannot be read: {error}") from error
        return said

    def _fetch(self, address: str, stopped: Stopped) -> str:
        """What one request brings. Returns what is wrong with some of it, "" for nothing."""
        said = ""
        answer = self._session.get(f"{self._url}/{address}", headers=_ASKED_FOR, stream=True)
        with answer:
            try:
                answer.raise_for_status()
            except requests.HTTPError as error:
                return f"{self._url} answered {status_of(error)}"
            coding = answer.headers.get("Content-Encoding") or "identity"
            if coding.lower() != "identity":
                raise RetrieveError(f"{self._url} answers in Content-Encoding {coding[:40]!r}; have it use none")
            chunks = self._chunks(answer, stopped)
            boundary = boundary_of(answer.headers.get("Content-Type", ""))
            for instance in Multipart(chunks, boundary) if boundary else (chunks,):
                if stopped():
                    raise StoppedError
                said = self._take(instance) or said
        return said

    def _chunks(self, answer: requests.Response, stopped: Stopped) -> Iterator[bytes]:
        for chunk in answer.iter_content(_CHUNK_BYTES):
            if stopped():
                raise StoppedError
            yield chunk
        if self._session.overdue:  # an answer of unknown length that was cut off ends like a whole one
            raise requests.Timeout

    def _take(self, instance: Iterator[bytes]) -> str:
        """Returns what is wrong with it, "" when it is kept or not ours."""
        try:
            meta, data_set = split(instance)
        except Part10Error as error:
            return f"{self._url} sent something that cannot be read: {error}"
        if meta.sop_class_uid not in self._sop_classes:
            return ""
        answer = self._taker.take(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, data_set)
        return "" if answer.status == SUCCESS else f"an instance was not stored: {answer.comment}"


def _addresses(part: Part) -> Iterator[str]:
    """Below the server's: a study, a series, or instance after instance (PS3.18 table 10.4.1-1)."""
    for uid in (part.study_instance_uid, part.series_instance_uid or "0", *part.sop_instance_uids):
        if not is_uid(uid):
            raise RetrieveError(f"{uid!r} is not a UID")
    address = f"studies/{part.study_instance_uid}"
    if part.series_instance_uid:
        address += f"/series/{part.series_instance_uid}"
    if not part.sop_instance_uids:
        yield address
    for uid in part.sop_instance_uids:
        yield f"{address}/instances/{uid}"


def _filter(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, MultiValue) else str(value)


def _uid_of(row: _Row, tag: str) -> str:
    """What the row speaks of. Raises ValueError without it: left out, there would seem to be less than there is."""
    if uid := text(row, tag):
        return uid
    raise ValueError(f"a result has no value of {tag}")
