"""TLS: what is spoken at all; and for the connections that this node opens, whom it trusts and who it is."""

from __future__ import annotations

import ssl

from node.sender import SendError
from node.settings import TlsSettings

# BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 section B.12). With TLS 1.2 what RFC 9325
# section 4.2 recommends, and ChaCha20 for processors without AES; keys from 2048 bits RSA or 224 bits elliptic curve on
# (OpenSSL's level 2). The three suites of TLS 1.3 are OpenSSL's own.
OLDEST = ssl.TLSVersion.TLSv1_2  # RFC 8996
SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK:@SECLEVEL=2"


def client_context(tls: TlsSettings | None, peer: str) -> ssl.SSLContext:
    """What a connection to ``peer`` is wrapped with: its certificate is checked against the authority and its address;
    without ``tls`` against the system's authorities.

    Raises SendError that names the key and the file that cannot be used.
    """
    authority = tls.certificate_authority if tls is not None else ""
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except OSError as error:
        raise _unusable(peer, "certificate_authority", authority, error) from error
    context.minimum_version = OLDEST
    context.set_ciphers(SUITES)
    if tls is not None and tls.certificate:
        try:
            context.load_cert_chain(tls.certificate, tls.key or None, password="")  # nobody is there to be asked
        except OSError as error:
            files = f"{tls.certificate}, {tls.key or 'the same'}"
            raise _unusable(peer, "certificate and key", files, error) from error
    return context


def _unusable(peer: str, key: str, files: str, error: OSError) -> SendError:
    # ssl.SSLError is an OSError too; its strerror is no use to anybody.
    why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    what = f"the TLS files of {peer} cannot be used: {key} ({files}): {why or error}"
    return SendError(f"{what}; PEM files are needed, the key without a passphrase")


# OpenSSL's X509_V_ERR_ numbers
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS, _WEAK_KEY, _WEAK_AUTHORITY = 10, 9, 62, 64, 66, 67


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    remedy = {
        _EXPIRED: "have it renewed there",
        _NOT_YET: "look at the clocks on both sides",
        _OTHER_HOST: "host or url has to name the server as its certificate does",
        _OTHER_ADDRESS: "host or url has to name the server as its certificate does",
        _WEAK_KEY: "have one made with a key of 2048 bits RSA or more, or of an elliptic curve",
        _WEAK_AUTHORITY: "its authority needs a key of 2048 bits RSA or more, or of an elliptic curve",
    }.get(error.verify_code, "tls certificate_authority has to hold the authority that signed it")
    return f"its certificate is not accepted: {error.verify_message}; {remedy}"


_SPEAKS_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_REFUSES_OURS = ("CERTIFICATE", "UNKNOWN_CA")  # of alerts
_NOTHING_IN_COMMON = ("HANDSHAKE_FAILURE", "PROTOCOL_VERSION")  # the first may be for want of our certificate, too


def tls_trouble(error: ssl.SSLError) -> str:
    """Why a handshake failed, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error)
    reason = error.reason or type(error).__name__
    if reason in _SPEAKS_NO_TLS:
        return "it does not speak TLS there; is the port right, and does it want TLS?"
    if "ALERT" in reason and any(word in reason for word in _REFUSES_OURS):
        return f"it does not accept who we are ({reason}); tls certificate and key have to be such that it knows"
    if any(word in reason for word in _NOTHING_IN_COMMON):
        spoken = "TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3, is what it has to speak"
        return f"nothing in common ({reason}): {spoken}, and it may want to see tls certificate and key"
    return f"TLS came to no end: {reason}"
