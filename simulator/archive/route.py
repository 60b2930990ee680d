"""Auto-routing: a study that has been quiet is sent on, each instance once, the product's own series never."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from simulator.archive.faults import FaultOrder
from simulator.archive.index import Index, StoredInstance
from simulator.archive.send import Peer, SendResult, send

_TICK_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Router:
    """Sends studies of the index to ``destinations`` when nothing has come for ``quiet_seconds``."""

    def __init__(
        self, index: Index, destinations: Sequence[Peer], quiet_seconds: float,
        calling_ae_title: Callable[[], str], faults: Callable[[], FaultOrder],
    ) -> None:
        self._index = index
        self._destinations = tuple(destinations)
        self._quiet_seconds = quiet_seconds
        self._calling_ae_title = calling_ae_title
        self._faults = faults
        self._due: dict[tuple[str, Peer], float] = {}  # (Study Instance UID, destination)
        self._sent: set[tuple[str, str]] = set()  # (destination, SOP Instance UID)
        self._held_until: dict[tuple[Peer, StoredInstance], float] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive router", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being sent and end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def arrived(self, instance: StoredInstance) -> None:
        """A new or changed instance came in: its study is not quiet, and the instance is to be sent."""
        with self._lock:
            for peer in self._destinations:
                self._due[instance.study_uid, peer] = time.monotonic() + self._quiet_seconds
            self._sent -= {(peer.ae_title, instance.sop_instance_uid) for peer in self._destinations}

    def route(self, study_uid: str, destination: Peer) -> SendResult:
        """Send now what the destination has not had from here, without what faults lose or hold back."""
        with self._sending:
            faults = self._faults()
            waiting = self._waiting(study_uid, destination)
            lost = faults.lose(waiting)
            kept = [instance for instance in waiting if instance not in lost]
            late = faults.hold_back((study_uid, destination), kept)
            prompt = [instance for instance in kept if instance not in late]
            with self._lock:
                release = time.monotonic() + faults.late_seconds
                self._held_until |= {(destination, instance): release for instance in late}
            result = send(prompt, destination, self._calling_ae_title(), faults.instances_per_association)
            with self._lock:
                self._sent |= {(destination.ae_title, instance.sop_instance_uid) for instance in lost}
                self._sent |= {(destination.ae_title, uid) for uid in result.sent}
        if waiting:
            _log.info("routed %d of %d instances to %s", len(result.sent), len(waiting), destination.ae_title)
        return result

    def _waiting(self, study_uid: str, destination: Peer) -> list[StoredInstance]:
        with self._lock:
            return [
                instance for instance in self._index.of_study(study_uid)
                if not instance.made_by_quarterdose
                and (destination.ae_title, instance.sop_instance_uid) not in self._sent
                and (destination, instance) not in self._held_until
            ]

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            self._release()
            for study_uid, destination in self._quiet_studies():
                if self.route(study_uid, destination).failed:
                    with self._lock:  # the destination may be down: once more after another quiet time
                        retry = time.monotonic() + max(self._quiet_seconds, 1.0)
                        self._due.setdefault((study_uid, destination), retry)

    def _release(self) -> None:
        """What was held back long enough waits to be sent like any other."""
        with self._lock:
            now = time.monotonic()
            for destination, instance in [held for held, release in self._held_until.items() if release <= now]:
                del self._held_until[destination, instance]
                self._due.setdefault((instance.study_uid, destination), now)

    def _quiet_studies(self) -> list[tuple[str, Peer]]:
        with self._lock:
            now = time.monotonic()
            quiet = [route for route, due in self._due.items() if due <= now]
            for route in quiet:
                del self._due[route]
            return quiet
