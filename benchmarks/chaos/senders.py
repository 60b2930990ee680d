"""Senders as PACS routers are: DCMTK's storescu over one association after the other, until every instance is answered
success. What was answered is written down here, by nobody that the node has a part in."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.studies import ChaosStudy, dataset_digest
from tests.conftest import require

_ASSOCIATION_SECONDS = 120
_SENDING = re.compile(r"Sending file: (.+)$")
_ANSWER = re.compile(r"Received Store Response \((.+)\)")


@dataclass
class SenderLedger:
    """``acknowledged``: the digest of the data set of each file that success was answered for, with its study."""

    acknowledged: dict[Path, str] = field(default_factory=dict)
    associations: int = 0
    answers: Counter[str] = field(default_factory=Counter)


class Sender(threading.Thread):
    """One calling AE title with some studies to send before ``deadline`` (time.monotonic)."""

    def __init__(
        self, ae_title: str, called: tuple[str, int], studies: Sequence[ChaosStudy], pause: float, deadline: float,
        rng: random.Random,
    ) -> None:  # fmt: skip
        super().__init__(name=ae_title, daemon=True)
        self.ledger = SenderLedger()
        self._ae_title, (self._called, self._port) = ae_title, called
        self._studies, self._pause, self._deadline, self._rng = studies, pause, deadline, rng
        self._storescu = require("storescu")

    def run(self) -> None:
        for study in self._studies:
            time.sleep(self._rng.expovariate(1 / self._pause) if self._pause else 0.0)
            for part in self._parts(study.files):
                self._until_acknowledged(part)

    def _parts(self, files: Sequence[Path]) -> list[list[Path]]:
        """The study as a router happens to send it: over one to three associations, now and then in any order."""
        files = list(files)
        if self._rng.random() < 0.3:
            self._rng.shuffle(files)
        size = -(-len(files) // self._rng.randint(1, 3))
        return [files[start : start + size] for start in range(0, len(files), size)]

    def _until_acknowledged(self, files: Sequence[Path]) -> None:
        waiting = list(files)
        while waiting and time.monotonic() < self._deadline:
            for path in self._send(waiting):
                self.ledger.acknowledged[path] = dataset_digest(path)
            waiting = [path for path in waiting if path not in self.ledger.acknowledged]
            if waiting:
                time.sleep(self._rng.uniform(0.5, 4.0))

    def _send(self, files: Sequence[Path]) -> list[Path]:
        """One association; the files that were answered success."""
        self.ledger.associations += 1
        command = [
            self._storescu, "-v", "-nh", "-R", "-to", "10", "-ta", "20", "-td", "60", "-aet", self._ae_title,
            "-aec", self._called, "127.0.0.1", str(self._port), *map(str, files),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=_ASSOCIATION_SECONDS, check=False)
            said = done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"") + (late.stderr or b"")
        return self._acknowledged(said.decode("utf-8", "replace"))

    def _acknowledged(self, said: str) -> list[Path]:
        sending: Path | None = None
        taken = []
        for line in said.splitlines():
            if found := _SENDING.search(line):
                sending = Path(found.group(1))
            elif (found := _ANSWER.search(line)) and sending is not None:
                self.ledger.answers[found.group(1)] += 1
                if found.group(1) == "Success":
                    taken.append(sending)
                sending = None
        return taken
