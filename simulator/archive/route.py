"""Auto-routing: a study that has been quiet is sent on, each instance once, the product's own series never."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from simulator.archive.index import Index, StoredInstance
from simulator.archive.send import Peer, SendResult, send

_TICK_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Router:
    """Sends studies of the index to ``destinations`` when nothing has come for ``quiet_seconds``."""

    def __init__(
        self, index: Index, destinations: Sequence[Peer], quiet_seconds: float, calling_ae_title: Callable[[], str]
    ) -> None:
        self._index = index
        self._destinations = tuple(destinations)
        self._quiet_seconds = quiet_seconds
        self._calling_ae_title = calling_ae_title
        self._due: dict[str, float] = {}
        self._sent: set[tuple[str, str]] = set()  # (destination, SOP Instance UID)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive router", daemon=True)

    def start(self) -> None:
        """Begin to watch, if there is anywhere to send to."""
        if self._destinations:
            self._thread.start()

    def stop(self) -> None:
        """Finish what is being sent and end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def arrived(self, instance: StoredInstance) -> None:
        """A new or changed instance came in: its study is not quiet, and the instance is to be sent."""
        with self._lock:
            self._due[instance.study_uid] = time.monotonic() + self._quiet_seconds
            self._sent -= {(peer.ae_title, instance.sop_instance_uid) for peer in self._destinations}

    def route(self, study_uid: str, destination: Peer) -> SendResult:
        """Send now what the destination has not had from here."""
        with self._sending:
            waiting = [
                instance for instance in self._index.of_study(study_uid)
                if not instance.made_by_quarterdose
                and (destination.ae_title, instance.sop_instance_uid) not in self._sent
            ]
            result = send(waiting, destination, self._calling_ae_title())
            with self._lock:
                self._sent |= {(destination.ae_title, uid) for uid in result.sent}
        if waiting:
            _log.info("routed %d of %d instances to %s", len(result.sent), len(waiting), destination.ae_title)
        return result

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            for study_uid in self._quiet_studies():
                results = [self.route(study_uid, destination) for destination in self._destinations]
                if any(result.failed for result in results):
                    with self._lock:  # the destination may be down: once more after another quiet time
                        self._due.setdefault(study_uid, time.monotonic() + max(self._quiet_seconds, 1.0))

    def _quiet_studies(self) -> list[str]:
        with self._lock:
            now = time.monotonic()
            quiet = [study_uid for study_uid, due in self._due.items() if due <= now]
            for study_uid in quiet:
                del self._due[study_uid]
            return quiet
