"""What an association request has led to, for when the same request comes again.

A sender asks for the same association every time, byte for byte. DCMTK proposes 128 presentation contexts, which
pynetdicom takes longer to decode, judge and answer than ten instances take to be stored, and some senders open an
association for each instance. What a request leads to depends on its bytes and on the configuration alone, but for who
may call, and how many at once: that is asked every time (``node.receive.admission``).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

_MOST = 32
_LONGEST = 1 << 16  # bytes of a request; DCMTK's 128 presentation contexts are 14,000, and some 200 kB once decoded
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Negotiated:
    """An association that was accepted: request, presentation contexts by ID, response, its A-ASSOCIATE-AC PDU, and the
    SOP Class UIDs that are not taken."""

    request: A_ASSOCIATE
    accepted: Mapping[int, PresentationContext]
    rejected: Sequence[PresentationContext]
    response: A_ASSOCIATE
    response_pdu: bytes
    refused: frozenset[str]

    @classmethod
    def by(cls, association: Association) -> Negotiated:
        """What an acceptor's association that has just been established negotiated."""
        response = association.acceptor.primitive
        return cls(
            association.requestor.primitive, dict(association._accepted_cx), list(association._rejected_cx),
            response, A_ASSOCIATE_AC(response).encode(), refused_by(association),
        )  # fmt: skip


def refused_by(association: Association) -> frozenset[str]:
    """The SOP Class UIDs of an acceptor's association that are not taken."""
    return frozenset(str(context.abstract_syntax) for context in association.rejected_contexts)


class Negotiations:
    """The latest of them, by the digest of the request. For many threads. ``enabled`` is to be False where every
    request is judged by who its user is."""

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._lock = threading.Lock()
        self._first = threading.Lock()
        self._known: OrderedDict[bytes, Negotiated] = OrderedDict()

    def keeps(self, request: bytes) -> bool:
        """Whether it is worth while to look for it, and to remember it. Requests can be made that take megabytes."""
        return self._enabled and len(request) <= _LONGEST

    def find(self, request: bytes) -> Negotiated | None:
        """What the same A-ASSOCIATE-RQ led to."""
        key = _key(request)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def remember(self, request: bytes, negotiated: Negotiated) -> None:
        """What an A-ASSOCIATE-RQ led to, which had no user identity: a passcode is not kept."""
        with self._lock:
            self._known[_key(request)] = negotiated
            if len(self._known) > _MOST:
                self._known.popitem(last=False)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Whoever comes with a new request waits for those before him, who may bring the same: it is work for one
        processor either way. A peer that does not read its answer holds up nobody for long."""
        alone = self._first.acquire(timeout=_WAIT_SECONDS)
        try:
            yield
        finally:
            if alone:
                self._first.release()


def _key(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()
