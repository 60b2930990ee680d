"""Why a DICOM peer cannot be reached: pynetdicom keeps that to itself, so it is looked for again; and why we cannot."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import suppress

from node.trust import tls_trouble

_CONNECT_SECONDS = 5.0
_ALERT_SECONDS = 1.0  # with TLS 1.3, what the peer says of our certificate comes after the handshake


def why_not(host: str, port: int, tls: ssl.SSLContext | None) -> str:
    """What a connection meets at an address where no association could be had, with a remedy; takes some seconds."""
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS) as connection:
            if tls is None:
                return "it ends the connection; is it a DICOM application, and one without TLS?"
            with tls.wrap_socket(connection, server_hostname=host) as secured, suppress(TimeoutError):
                secured.settimeout(_ALERT_SECONDS)
                secured.recv(1)
            return "it ends the connection, though TLS stands; is it a DICOM application?"
    except ssl.SSLError as error:
        return tls_trouble(error)
    except TimeoutError:
        return "no answer in time; are host and port right, and does a firewall let us through?"
    except OSError as error:
        return f"{error.strerror or error}; is it running, and are host and port right?"


def after_refusal(reason: str, our_ae_title: str) -> str:
    """What to do about an A-ASSOCIATE-RJ, by the reason (PS3.8 table 9-21) in pynetdicom's words."""
    return {
        "Calling AE title not recognised": f"it has to know us: AE title {our_ae_title}, and often our address, too",
        "Called AE title not recognised": "it calls itself otherwise: is its AE title right here?",
        "Temporary congestion": "it has too much to do; try later",
        "Local limit exceeded": "it has too many associations; try later",
    }.get(reason, "its log may say more")


def why_not_listening(key: str, host: str, port: int, error: OSError) -> str:
    """Why nobody can listen at an address of the configuration (its table is ``key``), with a remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "are host and port right?")
    return f"{key}.host and {key}.port, {host}:{port}: {error.strerror or error}; {remedy}"


_REMEDIES = {
    errno.EADDRINUSE: "another program, or another node, listens there: stop it or take another port",
    errno.EADDRNOTAVAIL: "this machine has no such address, `ip address` lists those it has",
    errno.EACCES: "a port below 1024 needs a capability, as deploy/README.md shows",
    socket.EAI_NONAME: "write an IP address of this machine",
}
