"""Retrieving by DICOMweb: QIDO-RS to ask, WADO-RS to fetch (PS3.18 sections 10.6 and 10.4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import Any

import requests
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue

from node.dicomweb import WebPeer, status_of, trouble
from node.receive.store import SUCCESS
from node.sender import NotOfferedError
from node.source import InstanceFound, Part, RetrieveError, SeriesFound, Stopped, StoppedError, StudyFound
from node.taker import Taker

_AS_IT_IS_STORED = (("application/dicom", "*"),)  # any transfer syntax: nothing is to be converted
_NO_SERVICE = (404, 405, 501)
_GROUP_LENGTH_END = 144  # preamble, prefix, and the element File Meta Information Group Length
_STUDY, _SERIES, _INSTANCE, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_ACCESSION, _DATE, _DESCRIPTION, _MODALITIES = "00080050", "00080020", "00081030", "00080061"
_MODALITY, _SERIES_INSTANCES = "00080060", "00201209"

_Row = dict[str, Any]


class QidoSearch(WebPeer):
    """Asks a DICOMweb server by QIDO-RS (``node.source.Search``). ``total_seconds`` bounds each question."""

    def __init__(
        self, url: str, timeout_seconds: float, total_seconds: float, authorization_file: str = "",
        certificate_authority: str = "",
    ) -> None:
        super().__init__(url, timeout_seconds, authorization_file, certificate_authority)
        self._total = total_seconds

    def studies(self, keys: Dataset) -> list[StudyFound]:
        """The studies that match the keys. Raises RetrieveError or NotOfferedError."""
        filters = {element.keyword: _text(element.value) for element in keys}
        rows = self._all(_STUDY, lambda offset: self._client.search_for_studies(
            offset=offset, fields=["StudyDescription", "ModalitiesInStudy"], search_filters=filters))  # fmt: skip
        return [
            StudyFound(
                uid, _value(row, _ACCESSION), _value(row, _DATE), _value(row, _DESCRIPTION),
                tuple(str(one) for one in row.get(_MODALITIES, {}).get("Value", [])),
            )
            for uid, row in rows.items()
        ]  # fmt: skip

    def series(self, study_instance_uid: str) -> list[SeriesFound]:
        """Every series of a study. Raises RetrieveError or NotOfferedError."""
        rows = self._all(_SERIES, lambda offset: self._client.search_for_series(
            study_instance_uid, offset=offset, fields=["NumberOfSeriesRelatedInstances"]))  # fmt: skip
        return [
            SeriesFound(uid, _value(row, _MODALITY), int(count) if (count := _value(row, _SERIES_INSTANCES)) else None)
            for uid, row in rows.items()
        ]

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[InstanceFound]:
        """Every instance of a series. Raises RetrieveError or NotOfferedError."""
        rows = self._all(_INSTANCE, lambda offset: self._client.search_for_instances(
            study_instance_uid, series_instance_uid, offset=offset))  # fmt: skip
        return [InstanceFound(uid, _value(row, _SOP_CLASS)) for uid, row in rows.items()]

    def _all(self, tag: str, search: Callable[[int], Sequence[_Row]]) -> dict[str, _Row]:
        """Every result by its UID, page after page until one has nothing new: a server may answer with a part of them
        (PS3.18 8.3.4.4), and may not know ``offset``."""
        found: dict[str, _Row] = {}
        try:
            with self._session.within(self._total):
                while new := {uid: row for row in search(len(found)) if (uid := _value(row, tag)) and uid not in found}:
                    found |= new
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in _NO_SERVICE:
                raise NotOfferedError(f"{self._url} offers no search: it answered {status_of(error)}") from error
            raise RetrieveError(f"{self._url} answered the search {status_of(error)}") from error
        except requests.RequestException as error:
            raise RetrieveError(f"{self._url} cannot be reached: {trouble(error)}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise RetrieveError(f"{self._url} was asked or answered something else than QIDO-RS: {error}") from error
        return found


class WadoSource(QidoSearch):
    """Asks by QIDO-RS and fetches by WADO-RS (``node.source.Retrieval``): instances of ``sop_classes`` go to ``taker``
    as they come, byte for byte."""

    def __init__(
        self, url: str, timeout_seconds: float, total_seconds: float, authorization_file: str,
        certificate_authority: str, *, sop_classes: Collection[str], taker: Taker,
    ) -> None:
        super().__init__(url, timeout_seconds, total_seconds, authorization_file, certificate_authority)
        self._sop_classes = sop_classes
        self._taker = taker

    def retrieve(self, part: Part, stopped: Stopped = lambda: False) -> str:
        said = ""
        with self._session.within(self._total):
            for fetch in self._requests(part):
                try:
                    for instance in _readable(fetch()):
                        if stopped():
                            raise StoppedError
                        said = self._take(instance) or said
                except requests.HTTPError as error:
                    said = f"{self._url} answered {status_of(error)}"
                except requests.RequestException as error:
                    self._check_time()
                    raise RetrieveError(f"{self._url} ended the connection: {trouble(error)}") from error
                self._check_time()
        return said

    def _requests(self, part: Part) -> Iterator[Callable[[], Iterator[FileDataset]]]:
        """Each asks for some instances when it is called."""
        study, series = part.study_instance_uid, part.series_instance_uid
        if not series:
            yield lambda: self._client.iter_study(study, media_types=_AS_IT_IS_STORED)
        elif not part.sop_instance_uids:
            yield lambda: self._client.iter_series(study, series, media_types=_AS_IT_IS_STORED)
        for uid in part.sop_instance_uids:
            yield partial(self._one, study, series, uid)

    def _one(self, study: str, series: str, instance: str) -> Iterator[FileDataset]:
        yield self._client.retrieve_instance(study, series, instance, _AS_IT_IS_STORED)

    def _take(self, instance: FileDataset) -> str:
        """Returns what is wrong with it, "" when it is kept or not ours."""
        meta = instance.file_meta
        sop_class = str(meta.get("MediaStorageSOPClassUID", ""))
        if sop_class not in self._sop_classes:
            return ""
        if "FileMetaInformationGroupLength" not in meta:
            return f"{self._url} sends instances without File Meta Information Group Length (0002,0000)"
        content = instance.buffer
        assert isinstance(content, BytesIO)  # noqa: S101 - what dicomweb-client reads from
        answer = self._taker.take(
            sop_class, str(meta.get("MediaStorageSOPInstanceUID", "")), str(meta.get("TransferSyntaxUID", "")),
            content.getbuffer()[_GROUP_LENGTH_END + meta.FileMetaInformationGroupLength :],
        )  # fmt: skip
        return "" if answer.status == SUCCESS else f"an instance was not stored: {answer.comment}"

    def _check_time(self) -> None:
        if self._session.overdue:
            raise RetrieveError(f"{self._url} did not finish within {self._total:g} s")


def _readable(instances: Iterator[FileDataset]) -> Iterator[FileDataset]:
    try:
        yield from instances
    except requests.RequestException:
        raise
    except Exception as error:  # pydicom may raise anything of what is no DICOM
        raise RetrieveError(f"what the server sent cannot be read: {type(error).__name__}") from error


def _value(row: _Row, tag: str) -> str:
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _text(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, MultiValue) else str(value)
