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
from typing import Self
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient

from node.sender import SendError
from node.settings import DicomWebDestination, DicomWebSource
from node.timed_session import TimedSession
from node.trust import client_context

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

    def _trouble(self, error: requests.RequestException) -> str:
        """What went wrong and what to do, without the text of the exception, which repeats addresses and queries."""
        if self._session.overdue:
            return f"it did not finish within {self._session.overdue:g} s"
        root = _root(error)
        if isinstance(root, ssl.SSLCertVerificationError):
            return _untrusted(root)
        if isinstance(root, RemoteDisconnected | ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
            return f"it ended the connection without an answer; {self._suspicion()}"
        if isinstance(root, ssl.SSLError):
            return _tls_trouble(root)
        if isinstance(error, requests.TooManyRedirects) and error.response is not None:
            where = urlsplit(error.response.headers.get("Location", ""))
            return f"it redirects to {where.scheme}://{where.hostname}, which is not followed; correct the url"
        if isinstance(error, requests.exceptions.InvalidJSONError):
            return "it answered something that is no JSON"
        return type(error).__name__

    def _suspicion(self) -> str:
        if self._url.startswith("https:"):
            return "does it want to see a certificate (tls certificate and key), or one of another authority?"
        return "if it speaks TLS, the url has to begin with https://"


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


_PAGE_BYTES = 4096
_TITLE = re.compile(rb"<title>([ -~]{1,100})</title>", re.IGNORECASE)


def _root(error: BaseException) -> BaseException:
    """What requests and urllib3 have wrapped: they keep it as an argument, or as ``reason``."""
    while True:
        inside = (one for one in (*error.args, getattr(error, "reason", None)) if isinstance(one, BaseException))
        found = next(inside, None)
        if found is None:
            return error
        error = found


_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_ numbers


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    remedy = {
        _EXPIRED: "have it renewed there",
        _NOT_YET: "look at the clocks on both sides",
        _OTHER_HOST: "the url has to name the server as its certificate does",
        _OTHER_ADDRESS: "the url has to name the server as its certificate does",
    }.get(error.verify_code, "tls certificate_authority has to hold the authority that signed it")
    return f"its certificate is not accepted: {error.verify_message}; {remedy}"


_SPEAKS_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_REFUSES_OURS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")  # of alerts


def _tls_trouble(error: ssl.SSLError) -> str:
    reason = error.reason or type(error).__name__
    if reason in _SPEAKS_NO_TLS:
        return "it does not speak TLS there; is the port right, or has the url to begin with http://?"
    if "ALERT" in reason and any(word in reason for word in _REFUSES_OURS):
        return f"it does not accept who we are ({reason}); tls certificate and key have to be such that it knows"
    return f"TLS came to no end: {reason}"
