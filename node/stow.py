"""Delivering by DICOMweb: STOW-RS to store, QIDO-RS to find again (PS3.18 sections 10.5 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import requests
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.dicomweb import WebPeer, WebServer, status_of, text
from node.sender import NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts

_BAD_REQUEST = 400
_DUPLICATE = 0x0111  # PS3.7 section C.5.1: the server has it already, which is all we wanted
_SLOWEST_BYTES_PER_SECOND = 100_000  # and the patience with silence on top: then an instance will not arrive


class StowSender(WebPeer):
    """``node.sender.Sender`` for a DICOMweb server."""

    def __init__(self, server: WebServer) -> None:
        super().__init__(server)
        self._session.hooks["response"].append(_name_media_type_alone)

    def takes(self, sop_class_uid: str) -> bool:
        return True  # nothing is negotiated

    def store(self, file: Outgoing) -> None:
        instance = dcmread(file.path)
        seconds = self._server.timeout_seconds + file.path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        try:
            with self._session.within(seconds):
                answer = self._client.store_instances([instance])
            failed, stored = _told(answer)
        except requests.HTTPError as error:
            failed, stored = _failed_by(error.response), set()
            if file.sop_instance_uid not in failed:
                raise RefusedError(f"{self._url} answered {status_of(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {self._trouble(error)}") from error
        except Exception as error:  # pydicom may raise anything of an answer that is none
            raise SendError(f"{self._url} answered something else than STOW-RS: {type(error).__name__}") from error
        reason = failed.get(file.sop_instance_uid, _DUPLICATE)
        if reason != _DUPLICATE:
            why = "it does not say why" if reason is None else f"failure reason 0x{reason:04X}"
            raise RefusedError(f"{self._url} did not store it: {why}")
        if file.sop_instance_uid not in stored and file.sop_instance_uid not in failed:
            raise SendError(f"{self._url} answered success without naming the instance")

    def has(self, instance: Whereabouts) -> bool:
        try:
            with self._session.within(self._server.timeout_seconds):
                found = self._found(instance)
            return any(text(one, "00080018") == instance.sop_instance_uid for one in found)
        except requests.HTTPError as error:
            raise SendError(f"{self._url} answered {status_of(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {self._trouble(error)}") from error
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise SendError(f"{self._url} answered something else than QIDO-RS: {error}") from error

    def _found(self, instance: Whereabouts) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self._client.search_for_instances(
                instance.study_instance_uid, instance.series_instance_uid,
                search_filters={"SOPInstanceUID": instance.sop_instance_uid},
            )  # fmt: skip
            return found
        except requests.HTTPError as error:
            if self._holds_nothing(error, instance.study_instance_uid):
                return []
            if error.response is not None and error.response.status_code == _BAD_REQUEST:
                raise NotOfferedError(f"{self._url} does not search in this way: {status_of(error)}") from error
            raise

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        raise NotOfferedError(f"{self._url} is reached by DICOMweb, which is asked by QIDO-RS instead")


def _name_media_type_alone(answer: requests.Response, **_: object) -> None:
    """dicomweb-client takes an answer to STOW-RS for an empty one where a parameter, charset say, follows its type."""
    if "Content-Type" in answer.headers:
        answer.headers["Content-Type"] = answer.headers["Content-Type"].partition(";")[0].strip().lower()


_Failed = dict[str, int | None]
"""The Failure Reason, None where none is told, by SOP Instance UID."""


def _failed_by(answer: requests.Response) -> _Failed:
    """What an answer that is an error tells of instances: one that stored nothing is 409, and holds the reasons."""
    try:
        return _told(Dataset.from_json(answer.json()))[0]
    except Exception:  # noqa: BLE001 - most are no DICOM, of whatever kind; their status is told
        return {}


def _told(answer: Dataset) -> tuple[_Failed, set[str]]:
    """Which instances were not stored and why, and which were (PS3.18 section 10.5.3), by SOP Instance UID."""
    return (
        {item.ReferencedSOPInstanceUID: item.get("FailureReason") for item in answer.get("FailedSOPSequence", [])},
        {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", [])},
    )
