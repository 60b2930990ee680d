"""What delivering and retrieving by DICOMweb (PS3.18) share: the server, the way there, and what may go wrong."""

from __future__ import annotations

import logging
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from http.client import RemoteDisconnected
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from dicomweb_client.api import DICOMwebClient

from node.sender import NotOfferedError, SendError
from node.settings import DicomWebDestination, DicomWebSource
from node.timed_session import TimedSession, TooLargeError
from node.trust import client_context, tls_trouble

# What dicomweb-client retries with: it would log every failure with a traceback, and we tell them ourselves.
logging.getLogger("retrying").setLevel(logging.ERROR)


@dataclass(frozen=True)
class WebServer:
    """A DICOMweb server that we call. ``authorization_file`` holds the header Authorization, "" sends none; without
    ``tls`` the certificate of an https url is checked against the system's authorities."""

    url: str
    timeout_seconds: float
    authorization_file: str = ""
    tls: ssl.SSLContext | None = None


def server_of(place: DicomWebDestination | DicomWebSource, timeout_seconds: float) -> WebServer:
    """How it is called. Raises SendError when the files of its TLS configuration cannot be used."""
    tls = client_context(place.tls, place.name) if place.url.startswith("https:") else None
    return WebServer(place.url, timeout_seconds, place.authorization_file, tls)


class WebPeer:
    """A DICOMweb server that is spoken to; a context manager."""

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._url = server.url.rstrip("/")
        self._session = TimedSession(server.timeout_seconds, server.tls)
        # Each request is sent once: retries are for the caller.
        self._client = DICOMwebClient(self._url, session=self._session)
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> Self:
        if self._server.authorization_file:
            self._session.headers["Authorization"] = self._authorization()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def _authorization(self) -> str:
        """What the file holds. Raises SendError, which does not repeat it: it is a secret."""
        what = f"the authorization for {self._url} cannot be"
        try:
            content = Path(self._server.authorization_file).read_text(encoding="ascii").strip()
        except OSError as error:
            raise SendError(f"{what} read: {error}") from error
        except UnicodeDecodeError:
            content = ""
        if not content.isprintable() or not content:
            raise SendError(f"{what} sent: {self._server.authorization_file} has to hold one line of ASCII") from None
        return content

    def _holds_nothing(self, error: requests.HTTPError, study_instance_uid: str) -> bool:
        """Whether the answer to a search within a study says that it is not there. 404 may, or that there is no such
        service: then the server is asked for the study by its UID, which is found or not (PS3.18 section 10.6.3.1).
        Raises NotOfferedError where it offers no search."""
        if error.response is None or error.response.status_code not in _NO_SERVICE:
            return False
        try:
            if error.response.status_code == _NOT_FOUND and study_instance_uid:
                self._client.search_for_studies(search_filters={"StudyInstanceUID": study_instance_uid})
                return True
        except requests.HTTPError as again:
            if again.response is None or again.response.status_code not in _NO_SERVICE:
                raise
        raise NotOfferedError(f"{self._url} offers no search: it answered {status_of(error)}") from error

    def _trouble(self, error: requests.RequestException) -> str:
        """What went wrong and what to do, without the text of the exception, which repeats addresses and queries."""
        if self._session.overdue:
            return f"it did not finish within {self._session.overdue:g} s"
        if isinstance(error, TooLargeError):
            return str(error)
        root = _root(error)
        if isinstance(root, RemoteDisconnected | ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
            return f"it ended the connection without an answer; {self._suspicion()}"
        if isinstance(root, ssl.SSLError):
            return tls_trouble(root)
        if isinstance(error, requests.TooManyRedirects) and error.response is not None:
            return f"it redirects to {_redirection(error.response)}, which is not followed; correct the url"
        if isinstance(error, requests.exceptions.InvalidJSONError):
            return "it answered something that is no JSON"
        return (root.strerror if isinstance(root, OSError) else None) or type(error).__name__

    def _suspicion(self) -> str:
        if self._url.startswith("https:"):
            return "does it want to see a certificate (tls certificate and key), or one of another authority?"
        return "if it speaks TLS, the url has to begin with https://"


def texts(row: dict[str, Any], tag: str) -> tuple[str, ...]:
    """The values of an attribute in the DICOM JSON model, "" for one that is null (PS3.18 section F.2.5). Raises
    AttributeError or TypeError where the row is none."""
    values = (row.get(tag) or {}).get("Value") or []
    if not isinstance(values, list):
        raise TypeError(f"the Value of {tag} is no array")
    return tuple("" if value is None else str(value).replace("\0", "").strip() for value in values)


def text(row: dict[str, Any], tag: str) -> str:
    """The first of ``texts``, "" where there is none."""
    return next(iter(texts(row, tag)), "")


def _redirection(answer: requests.Response) -> str:
    """The server that it leads to."""
    try:
        where = urlsplit(urljoin(answer.url, answer.headers.get("Location", "")))
    except ValueError:
        return "an address that is none"
    return f"{where.scheme}://{where.hostname}"


def status_of(error: requests.HTTPError) -> str:
    """The status line of an answer that is an error, with the title of the page that explains it, and what to do where
    that is known."""
    answer = error.response
    if answer is None:
        return "an HTTP error"
    page = b""
    with suppress(requests.RequestException):
        page = next(answer.iter_content(_PAGE_BYTES), b"")
    title = _TITLE.search(page)
    says = f" ({title[1].decode('ascii', 'replace').strip()})" if title else ""
    remedy = "; authorization_file has to hold what it asks for" if answer.status_code in (401, 403) else ""
    return f"{answer.status_code} {answer.reason}{says}{remedy}"


_NOT_FOUND = 404
_NO_SERVICE = (_NOT_FOUND, 405, 501)
_PAGE_BYTES = 4096
_TITLE = re.compile(rb"<title>([ -~]{1,100})</title>", re.IGNORECASE)


def _root(error: BaseException) -> BaseException:
    """What requests and urllib3 have wrapped: they keep it as an argument, as ``reason``, or as the cause."""
    while True:
        wrapped = (*error.args, getattr(error, "reason", None), error.__cause__)
        inside = (one for one in wrapped if isinstance(one, BaseException))
        found = next(inside, None)
        if found is None:
            return error
        error = found
