"""What is done to the node, each kind in a thread of its own, so that they fall together as they happen to."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.node import SupervisedNode, wait_until
from benchmarks.chaos.plan import Plan
from simulator.orthanc import OrthancProcess

_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


class Faults:
    """All of a plan's faults; a context manager that ends what has not begun. ``made`` counts what was done."""

    def __init__(
        self, plan: Plan, node: SupervisedNode, disk: SmallDisk, database: Path, pacs: OrthancProcess
    ) -> None:
        self.made: Counter[str] = Counter()
        self._plan, self._node, self._disk, self._database, self._pacs = plan, node, disk, database, pacs
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """From now on."""
        plan, begun = self._plan, time.monotonic()
        self._schedule(begun, "kills", plan.moments("kills", plan.kills), self._kill)
        if self._disk.is_real:
            self._schedule(begun, "fills", plan.moments("fills", plan.fills), self._fill)
        self._schedule(begun, "locks", plan.moments("locks", plan.locks), self._lock)
        lengths = list(plan.outages)
        outages = plan.moments("outages", len(lengths), 0.7)
        self._schedule(begun, "outages", outages, lambda _: self._outage(lengths.pop(0)))

    def stop(self) -> None:
        """End what has not begun, wait for what has."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def are_over(self) -> bool:
        """Whether everything planned was done."""
        return not any(thread.is_alive() for thread in self._threads)

    def _schedule(self, begun: float, name: str, moments: list[float], do: Callable[[int], None]) -> None:
        def work() -> None:
            for number, moment in enumerate(moments):
                if not wait_until(begun + moment, self._stop):
                    return
                do(number)

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _kill(self, number: int) -> None:
        """One at this moment; where that process does not live just now, as soon as one does."""
        wanted = ("main", "numeric", "other")[number % 3] if number % 6 != 5 else "main"
        while not self._stop.is_set():
            killed = self._node.kill(wanted) or (self._node.kill("numeric") if wanted == "other" else None)
            if killed:
                self.made[f"kill -9: {killed}"] += 1
                return
            time.sleep(0.05)

    def _fill(self, number: int) -> None:
        self._disk.fill(self._plan.random(f"fill {number}").uniform(*self._plan.fill_seconds))
        self.made["disk filled"] += 1

    def _lock(self, number: int) -> None:
        seconds = self._plan.random(f"lock {number}").uniform(*self._plan.lock_seconds)
        command = [sys.executable, "-c", _LOCK, str(self._database), str(seconds)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            self.made["database locked"] += 1

    def _outage(self, seconds: float) -> None:
        self._pacs.stop()
        self._stop.wait(seconds)
        self._pacs.start()
        self.made[f"PACS gone for {seconds:g} s"] += 1
