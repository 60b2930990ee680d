"""TLS for the listener (DICOM PS3.15 section B.12)."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from node.settings import ConfigurationError, ReceiverTlsSettings
from node.trust import OLDEST, SUITES

_NO_RESUMPTION = ssl.OP_NO_TICKET  # whoever comes again shows his certificate again


def server_context(tls: ReceiverTlsSettings) -> ssl.SSLContext:
    """What accepted connections are wrapped with. Raises ConfigurationError that names the key, its file and a remedy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = OLDEST
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | _NO_RESUMPTION
    context.num_tickets = 0
    _identify(context, tls)
    if tls.certificate_authority:
        _trust(context, tls.certificate_authority)
        context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
    return context


def context_of_a_caller(tls: ReceiverTlsSettings) -> ssl.SSLContext:
    """For calling ourselves: our own certificate is what we trust, and what we show. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _identify(context, tls)
    context.load_verify_locations(tls.certificate)
    return context


def valid_until(tls: ReceiverTlsSettings) -> datetime:
    """The end of our certificate's validity, found by a handshake with ourselves in memory.

    Raises ConfigurationError when the certificate is not valid now, or cannot be used.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _identify(server, tls)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context_of_a_caller(tls).wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (ours, theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        certificate = ours.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise _unusable("certificate", tls.certificate, f"{error.verify_message}; have a new one signed") from error
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _identify(context: ssl.SSLContext, tls: ReceiverTlsSettings) -> None:
    _check_pem("certificate", tls.certificate, "CERTIFICATE")
    key = tls.key or tls.certificate
    _check_pem("key", key, "PRIVATE KEY")

    def no_passphrase() -> str:
        raise _unusable("key", key, "it is encrypted; the node has nobody to ask, write it without a passphrase")

    try:
        context.load_cert_chain(tls.certificate, key, no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable("key", key, f"it is not the key of {tls.certificate}; name the one that is") from error
        why = f"{error.reason or error}; PEM with an RSA key from 2048 bits on, or one of an elliptic curve, is needed"
        raise _unusable("certificate", tls.certificate, why) from error


def _trust(context: ssl.SSLContext, authority: str) -> None:
    _check_pem("certificate_authority", authority, "CERTIFICATE")
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        why = f"{error.reason or error}; export it again as PEM"
        raise _unusable("certificate_authority", authority, why) from error


def _check_pem(key: str, path: str, kind: str) -> None:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _unusable(key, path, f"{error.strerror}; it must be a file that the node's user may read") from error
    if f"{kind}-----".encode() not in content:
        raise _unusable(key, path, f"it holds no {kind}; PEM is needed (`openssl x509 -inform der` converts)")


def _unusable(key: str, path: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"receiver.tls.{key} = {path!r}: {why}")
