"""The node as a service manager keeps it: `quarterdose run`, started again whenever it ends; and its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_RESTART_SECONDS = 1.0
_NUMERIC = "libtorch"  # only the numeric process loads torch


class SupervisedNode:
    """A context manager around one configuration file; ``starts`` counts."""

    def __init__(self, config: Path) -> None:
        self.starts = 0
        self.log = config.parent / "node.log"
        self._command = [sys.executable, "-m", "node.cli", "run", "--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(60)

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
            self.starts += 1
            if self._stopping.is_set():
                self._process.terminate()
            self._process.wait()
            self._stopping.wait(_RESTART_SECONDS)

    @property
    def main(self) -> int | None:
        """The main process, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None and _lives(process.pid) else None

    def kill(self, victim: str) -> str | None:
        """kill -9 of ``main``, of the ``numeric`` process, or of any ``other`` child; which it was, None if none lives.
        """
        main = self.main
        if main is None:
            return None
        numeric, others = _children(main)
        chosen = {"main": [main], "numeric": numeric, "other": others}[victim]
        for process in chosen[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                while _lives(process):  # or the next kill might count a second time what is dying
                    time.sleep(0.01)
                return victim
        return None


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(main: int) -> tuple[list[int], list[int]]:
    """The numeric process among the descendants, and the others; multiprocessing's resource tracker does not count."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    family, found = {main}, True
    while found:
        found = {process for process, parent in parents.items() if parent in family} - family
        family |= found
    numeric, others = [], []
    for process in sorted(family - {main}):
        with contextlib.suppress(OSError):
            if b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes():
                continue
            is_numeric = _NUMERIC in Path(f"/proc/{process}/maps").read_text()
            (numeric if is_numeric else others).append(process)
    return numeric, others


def wait_until(moment: float, stop: threading.Event) -> bool:
    """Sleep until a moment of time.monotonic; False when it was ended before."""
    return not stop.wait(max(0.0, moment - time.monotonic()))
