"""The node as a process of its own, as a hospital runs it, to be started, killed with -9 and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from node.association import Peer
from node.receive.tls import context_of_a_caller
from node.scu import StorageScu, echo
from node.sender import Outgoing, SendError
from node.settings import Settings, load_settings
from tests.waiting import eventually


class NodeProcess:
    """`quarterdose run` over one configuration file; a context manager that stops it."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.settings: Settings = load_settings(config)
        self.log = config.parent / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._process is None or self._process.poll() is not None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=30)

    @property
    def peer(self) -> Peer:
        receiver = self.settings.receiver
        tls = None if receiver.tls is None else context_of_a_caller(receiver.tls)
        return Peer(self.settings.node.ae_title, receiver.host, receiver.port, "PACS", 10.0, tls)

    def start(self) -> None:
        """Start and wait until it answers C-ECHO."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "node.cli", "run", "--config", str(self.config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self.answers, 60, every=0.2)

    def kill(self) -> None:
        """kill -9, and nothing else: no child may need us to end it."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def answers(self) -> bool:
        """Whether it answers C-ECHO."""
        assert self._process is not None
        assert self._process.poll() is None, f"the node ended: {self.log.read_text()[-3000:]}"
        try:
            echo(self.peer)
        except SendError:
            return False
        return True

    def send(self, files: list[Path]) -> None:
        """Send files to it, as the PACS would."""
        outgoing = [Outgoing.of(path) for path in files]
        with StorageScu(self.peer, outgoing) as scu:
            for file in outgoing:
                scu.store(file)

    def quarterdose(self, *arguments: str, code: int = 0) -> str:
        """Run a command of the command line on its configuration; returns what it printed."""
        command = [sys.executable, "-m", "node.cli", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def studies(self) -> list[dict[str, Any]]:
        """`studies list --json`."""
        listed: list[dict[str, Any]] = json.loads(self.quarterdose("studies", "list", "--json"))
        return listed

    def study(self, name: str) -> dict[str, Any]:
        """`studies show --json`."""
        shown: dict[str, Any] = json.loads(self.quarterdose("studies", "show", name, "--json"))
        return shown
