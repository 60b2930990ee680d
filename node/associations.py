"""Which studies are being sent right now, and which senders have said that they are done."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from weakref import WeakKeyDictionary


class Associations:
    """What each association has brought, by study key. Told by the receiver, from many threads; asked by the collector.

    A study is *open* while an association that brought something of it lives. It is *finished* when the last such
    association ended with a release: its sender had nothing more to say. After an abort, or a restart of the node,
    nobody said so, and only quiet time can tell.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, set[str]] = {}
        self._released: set[Hashable] = set()
        # The release of an association may be reported just after its connection closed.
        self._ended: WeakKeyDictionary[Hashable, set[str]] = WeakKeyDictionary()
        self._finished: set[str] = set()

    def opened(self, association: Hashable) -> None:
        with self._lock:
            self._open[association] = set()

    def brings(self, association: Hashable, study_key: str) -> None:
        """To be told before the instance is stored. An association that has closed meanwhile is not opened again."""
        with self._lock:
            self._finished.discard(study_key)
            if association in self._open:
                self._open[association].add(study_key)

    def released(self, association: Hashable) -> None:
        with self._lock:
            if association in self._open:
                self._released.add(association)
            self._finish(self._ended.pop(association, set()))

    def closed(self, association: Hashable) -> None:
        with self._lock:
            studies = self._open.pop(association, set())
            if association in self._released:
                self._released.remove(association)
                self._finish(studies)
            elif studies:
                self._ended[association] = studies

    def is_open(self, study_key: str) -> bool:
        with self._lock:
            return any(study_key in studies for studies in self._open.values())

    def is_finished(self, study_key: str) -> bool:
        with self._lock:
            return study_key in self._finished

    def _finish(self, studies: set[str]) -> None:
        self._finished |= {key for key in studies if not any(key in others for others in self._open.values())}
