"""Delivering by DICOMweb: STOW-RS to store, QIDO-RS to find again (PS3.18 sections 10.5 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence

import requests
from pydicom import dcmread

from node.dicomweb import WebPeer, status_of
from node.sender import NotOfferedError, Outgoing, RefusedError, SendError, Whereabouts

_SLOWEST_BYTES_PER_SECOND = 100_000  # and the patience with silence on top: then an instance will not arrive


class StowSender(WebPeer):
    """``node.sender.Sender`` for a DICOMweb server."""

    def takes(self, sop_class_uid: str) -> bool:
        return True  # nothing is negotiated

    def store(self, file: Outgoing) -> None:
        seconds = self._server.timeout_seconds + file.path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        try:
            with self._session.within(seconds):
                answer = self._client.store_instances([dcmread(file.path)])
        except requests.HTTPError as error:
            raise RefusedError(f"{self._url} answered {status_of(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {self._trouble(error)}") from error
        for failure in answer.get("FailedSOPSequence", []):
            if failure.ReferencedSOPInstanceUID == file.sop_instance_uid:
                raise RefusedError(f"{self._url} did not store it: failure reason 0x{failure.FailureReason:04X}")
        stored = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", [])}
        if file.sop_instance_uid not in stored:
            raise SendError(f"{self._url} answered success without naming the instance")

    def has(self, instance: Whereabouts) -> bool:
        try:
            with self._session.within(self._server.timeout_seconds):
                found = self._client.search_for_instances(
                    instance.study_instance_uid, instance.series_instance_uid,
                    search_filters={"SOPInstanceUID": instance.sop_instance_uid},
                )  # fmt: skip
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in (400, 404, 405, 501):
                raise NotOfferedError(f"{self._url} offers no search: {status_of(error)}") from error
            raise SendError(f"{self._url} answered {status_of(error)}") from error
        except requests.RequestException as error:
            raise SendError(f"{self._url} cannot be reached: {self._trouble(error)}") from error
        return any(one.get("00080018", {}).get("Value") == [instance.sop_instance_uid] for one in found)

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        raise NotOfferedError(f"{self._url} is reached by DICOMweb, which is asked by QIDO-RS instead")
