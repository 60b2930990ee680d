"""Delivering by DICOMweb: STOW-RS to store, QIDO-RS to find again (PS3.18 sections 10.5 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from node.sender import NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts


class StowSender:
    """``node.sender.Sender`` for a DICOMweb server; ``certificate_authority`` is a PEM file, empty: the system's."""

    def __init__(
        self, url: str, timeout_seconds: float, authorization_file: str = "", certificate_authority: str = ""
    ) -> None:
        self._url = url
        self._timeout = timeout_seconds
        self._authorization_file = authorization_file
        self._session = _TimedSession(timeout_seconds)
        self._session.trust_env = False  # the configuration alone says where images go: no proxy of the environment
        if certificate_authority:
            self._session.verify = certificate_authority
        self._client = DICOMwebClient(url, session=self._session)
        self._client.set_http_retry_params(retry=False)  # retries are the deliverer's

    def __enter__(self) -> StowSender:
        if self._authorization_file:
            try:
                secret = Path(self._authorization_file).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SendError(f"the authorization for {self._url} cannot be read: {error}") from error
            self._session.headers["Authorization"] = secret
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def takes(self, sop_class_uid: str) -> bool:
        return True  # nothing is negotiated

    def store(self, file: Outgoing) -> None:
        try:
            answer = self._client.store_instances([dcmread(file.path)])
        except requests.HTTPError as error:
            raise RefusedError(f"{self._url} answered {_status(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {_without_url(error)}") from error
        for failure in answer.get("FailedSOPSequence", []):
            if failure.ReferencedSOPInstanceUID == file.sop_instance_uid:
                raise RefusedError(f"{self._url} did not store it: failure reason 0x{failure.FailureReason:04X}")
        stored = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", [])}
        if file.sop_instance_uid not in stored:
            raise SendError(f"{self._url} answered success without naming the instance")

    def has(self, instance: Whereabouts) -> bool:
        try:
            found = self._client.search_for_instances(
                instance.study_instance_uid, instance.series_instance_uid,
                search_filters={"SOPInstanceUID": instance.sop_instance_uid},
            )  # fmt: skip
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in (400, 404, 405, 501):
                raise NotOfferedError(f"{self._url} offers no search: {_status(error)}") from error
            raise SendError(f"{self._url} answered {_status(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {_without_url(error)}") from error
        return any(one.get("00080018", {}).get("Value") == [instance.sop_instance_uid] for one in found)

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        raise NotOfferedError(f"{self._url} is reached by DICOMweb, which is asked by QIDO-RS instead")


class _TimedSession(requests.Session):
    """Every request ends: requests itself would wait for ever."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self._seconds)
        return super().request(*args, **kwargs)


def _status(error: requests.HTTPError) -> str:
    return "an HTTP error" if error.response is None else f"{error.response.status_code} {error.response.reason}"


def _without_url(error: requests.RequestException) -> str:
    """The kind of trouble: the text of the exception repeats addresses and queries."""
    return type(error).__name__
