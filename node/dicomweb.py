"""What delivering and retrieving by DICOMweb (PS3.18) share: a session of HTTP requests that all come to an end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

import requests
from dicomweb_client.api import DICOMwebClient

from node.sender import SendError

_CHUNK_BYTES = 1 << 16  # what came of a chunk before the connection broke is lost


class TimedSession(requests.Session):
    """Every request ends after ``seconds`` of silence: requests itself would wait for ever.

    ``certificate_authority`` is a PEM file, empty: the system's.
    """

    def __init__(self, seconds: float, certificate_authority: str = "") -> None:
        super().__init__()
        self._seconds = seconds
        self._answers: list[requests.Response] = []
        self.overdue = False
        self.trust_env = False  # the configuration alone says where images go: no proxy of the environment
        if certificate_authority:
            self.verify = certificate_authority

    def client(self, url: str) -> DICOMwebClient:
        """A client of the server's that sends each request once: retries are for the caller."""
        client = DICOMwebClient(url, session=self, timeout=self._seconds, chunk_size=_CHUNK_BYTES)
        client.set_http_retry_params(retry=False)
        return client

    def authorize(self, url: str, authorization_file: str) -> None:
        """Send what the file holds as the header Authorization. Raises SendError when it cannot be read."""
        try:
            self.headers["Authorization"] = Path(authorization_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SendError(f"the authorization for {url} cannot be read: {error}") from error

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """After so many seconds the answers that are still coming end: bytes that drip in are no silence. ``overdue``
        says so then."""
        self.overdue = False
        timer = Timer(seconds, self._end_answers)
        timer.daemon = True
        self.hooks["response"].append(self._came)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.hooks["response"].remove(self._came)
            self._answers.clear()

    def _came(self, answer: requests.Response, *args: Any, **kwargs: Any) -> None:
        self._answers.append(answer)
        if self.overdue:
            self._end_answers()

    def _end_answers(self) -> None:
        self.overdue = True
        for answer in list(self._answers):
            with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
                answer.raw.shutdown()


class WebPeer:
    """A DICOMweb server that is spoken to; a context manager. ``certificate_authority`` is a PEM file, empty: the
    system's."""

    def __init__(
        self, url: str, timeout_seconds: float, authorization_file: str = "", certificate_authority: str = ""
    ) -> None:
        self._url = url
        self._authorization_file = authorization_file
        self._session = TimedSession(timeout_seconds, certificate_authority)
        self._client = self._session.client(url)

    def __enter__(self) -> Self:
        if self._authorization_file:
            self._session.authorize(self._url, self._authorization_file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()


def status_of(error: requests.HTTPError) -> str:
    """The status line of an answer that is an error."""
    return "an HTTP error" if error.response is None else f"{error.response.status_code} {error.response.reason}"


def trouble(error: requests.RequestException) -> str:
    """The kind of trouble: the text of the exception repeats addresses and queries."""
    return type(error).__name__
