"""User identity negotiation: who a caller says its user is, checked against a file (DICOM PS3.7 section D.3.3.7)."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from pathlib import Path

from pynetdicom.pdu_primitives import UserIdentityNegotiation

from node.settings import ConfigurationError

_NAME_AND_PASSCODE = 2
_KINDS = {1: "a name without a passcode", 3: "a Kerberos ticket", 4: "a SAML assertion", 5: "a JSON Web Token"}
_SALT_BYTES = 16


class Users:
    """Names, and what their passcodes are hashed to (scrypt). The file has a line ``name:salt:hash`` for each, in hex.
    """

    def __init__(self, known: dict[str, tuple[bytes, bytes]]) -> None:
        self._known = known
        self._one_at_a_time = threading.Lock()  # scrypt takes 16 MB each time

    @classmethod
    def load(cls, path: Path) -> Users:
        """Read the file; lines that are empty or begin with # say nothing. Raises ConfigurationError."""
        known = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
            remedy = "`quarterdose user NAME` prints a line for it"
            raise ConfigurationError(f"receiver.user_identities: {path} cannot be read ({cause}); {remedy}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                name, salt, digest = line.strip().rsplit(":", 2)
                known[name] = bytes.fromhex(salt), bytes.fromhex(digest)
            except ValueError as error:
                why = "is not name:salt:hash; `quarterdose user NAME` writes such a line"
                raise ConfigurationError(f"receiver.user_identities: line {number} of {path} {why}") from error
        return cls(known)

    def why_not(self, identity: UserIdentityNegotiation | None) -> str | None:
        """The reason why an identity is not accepted, for a person; None when it is."""
        if identity is None:
            return "no user identity was sent"
        if identity.user_identity_type != _NAME_AND_PASSCODE:
            kind = _KINDS.get(identity.user_identity_type, "something unknown")
            return f"the user identity is {kind}; this node checks a name with a passcode"
        name = identity.primary_field.decode("utf-8", "replace")
        salt, digest = self._known.get(name, (b"", b""))
        with self._one_at_a_time:  # for an unknown name too: the time must not tell
            given = _hash(identity.secondary_field, salt)
        return None if hmac.compare_digest(given, digest) else f"user {name!r} is unknown, or the passcode not theirs"


def line_for(name: str, passcode: str) -> str:
    """What to write into the file for a user."""
    salt = os.urandom(_SALT_BYTES)
    return f"{name}:{salt.hex()}:{_hash(passcode.encode(), salt).hex()}"


def _hash(passcode: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, n=1 << 14, r=8, p=1)
