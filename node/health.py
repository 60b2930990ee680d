"""A health probe for load balancers and monitoring: plain HTTP, GET /health, on a port of its own; off by default.

200 when instances can be received, 503 with what is wrong when not. Nothing of a patient is told.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from node.reach import why_not_listening
from node.receive import Receiver
from node.settings import Settings
from node.worker import Worker

log = logging.getLogger(__name__)

_LOCKED_SECONDS = 2.0  # longer than any transaction of ours
_ANSWER_KEPT_SECONDS = 1.0  # however often somebody asks
_CALLERS_AT_ONCE = 16
_REQUEST_SECONDS = 5.0


@dataclass(frozen=True)
class Part:
    """One thing that was looked at. ``needed``: without it nothing can be received."""

    ok: bool
    found: str
    needed: bool = True


@dataclass(frozen=True)
class Health:
    """``parts`` by name; ``studies`` counted by state, None when the database cannot be asked."""

    parts: dict[str, Part]
    studies: dict[str, int] | None
    associations: int

    @property
    def ok(self) -> bool:
        return all(part.ok for part in self.parts.values() if part.needed)

    def as_json(self) -> dict[str, Any]:
        """What the probe answers."""
        wrong = [f"{name}: {part.found}" for name, part in self.parts.items() if not part.ok]
        return {
            "status": "ok" if self.ok else "failing",
            "wrong": wrong,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "studies": self.studies,
            "associations": self.associations,
        }


class HealthCheck:
    """Looks at the node's parts."""

    def __init__(self, settings: Settings, receiver: Receiver, worker: Worker) -> None:
        self._settings = settings
        self._receiver = receiver
        self._worker = worker
        self._lock = threading.Lock()
        self._last: tuple[float, Health] | None = None

    def look(self) -> Health:
        """The health now, or a second ago. Threads that ask at the same time share one answer."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _ANSWER_KEPT_SECONDS:
                self._last = time.monotonic(), self._now()
            return self._last[1]

    def _now(self) -> Health:
        database, studies = self._database()
        parts = {"listener": self._listener(), "database": database, "disk": self._disk(), "worker": self._numeric()}
        return Health(parts, studies, self._receiver.associations)

    def _listener(self) -> Part:
        silence = self._receiver.silence
        if silence is None:
            return Part(False, "does not run")
        if silence > _REQUEST_SECONDS:
            return Part(False, f"has not looked for callers for {silence:.0f} s")
        return Part(True, "takes associations")

    def _database(self) -> tuple[Part, dict[str, int] | None]:
        """Over a connection of its own, that does not wait long: what holds the others up must not hold up the probe.
        """
        path = Path(make_url(self._settings.database_url).database or "")
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_LOCKED_SECONDS)) as connection:
                studies = dict(connection.execute("SELECT state, count(*) FROM studies GROUP BY state"))
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.Error as error:
            return Part(False, str(error)), None
        return Part(True, "can be read and written"), studies

    def _disk(self) -> Part:
        try:
            disk = os.statvfs(self._settings.node.data)
        except OSError as error:
            return Part(False, f"the data folder: {error.strerror}")
        free, wanted = disk.f_bavail * disk.f_frsize / 1e9, self._settings.receiver.minimum_free_gb
        return Part(free >= wanted, f"{free:.1f} GB free, at least {wanted:g} wanted")

    def _numeric(self) -> Part:
        """Studies that wait are processed by a new one: receiving goes on."""
        alive = self._worker.is_alive
        return Part(alive, "runs" if alive else "does not run; started with the next step", needed=False)


class HealthServer:
    """Answers in threads of its own, a few at once. With port 0 there is none."""

    def __init__(self, settings: Settings, check: HealthCheck) -> None:
        self._address = settings.health.host, settings.health.port
        self._check = check
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen; returns at once. Raises OSError when the address cannot be had."""
        if self._address[1] == 0:
            return
        try:
            self._server = _Server(self._address, self._check)
        except OSError as error:
            raise OSError(why_not_listening("health", *self._address, error)) from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        log.info("health probe at http://%s:%d/health", *self._address)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


SERVED_BY = "quarterdose"
"""How the probe's answers begin their Server header."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], check: HealthCheck) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.check = check
        self._free = threading.BoundedSemaphore(_CALLERS_AT_ONCE)
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("a health probe broke off", exc_info=log.isEnabledFor(logging.DEBUG))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_SECONDS
    server_version = SERVED_BY
    sys_version = ""

    def do_GET(self) -> None:
        if self.path != "/health":
            self.send_error(404, "Only /health is here")
            return
        health = self.server.check.look()
        content = (json.dumps(health.as_json(), indent=1) + "\n").encode()
        self.send_response(200 if health.ok else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("health probe from %s: " + format, self.client_address[0], *args)
