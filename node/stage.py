"""The stage of a demonstration: a folder of its own, the node as a process, and a PACS beside it, on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node.association import Peer
from node.errors import CommandError
from node.scu import echo
from node.sender import SendError
from node.settings import DEFAULT_CONFIG, DimseDestination, Settings, load_settings
from simulator.archive.send import Peer as RoutePeer
from simulator.archive.server import Archive
from simulator.orthanc import OrthancProcess

_MARK = ".quarterdose-demonstration"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_START_SECONDS = 60.0


class Pacs(Protocol):
    """What the demonstration needs of a PACS beyond DICOM."""

    def files(self, study_instance_uid: str, into: Path) -> list[Path]:
        """Everything it holds of a study, as files."""


@dataclass(frozen=True)
class ArchivePacs:
    """The simulator's archive, in this process."""

    archive: Archive

    def files(self, study_instance_uid: str, into: Path) -> list[Path]:
        return [instance.path for instance in self.archive.index.of_study(study_instance_uid)]


@dataclass(frozen=True)
class OrthancPacs:
    """A real Orthanc, asked over REST."""

    orthanc: OrthancProcess

    def files(self, study_instance_uid: str, into: Path) -> list[Path]:
        into.mkdir(parents=True, exist_ok=True)
        paths = []
        for instance in self.orthanc.instances(study_instance_uid):
            paths.append(into / f"{instance['ID']}.dcm")
            paths[-1].write_bytes(self.orthanc.get_bytes(f"/instances/{instance['ID']}/file"))
        return paths


@dataclass(frozen=True)
class Stage:
    """Where everything of one demonstration lies, under one folder that is made anew."""

    folder: Path
    config: Path
    settings: Settings
    place: DimseDestination

    @classmethod
    def build(cls, folder: Path, config: Path) -> Stage:
        """Copy the configuration into an empty folder, so that the node's data lie there too.

        Raises ConfigurationError for a configuration that cannot be used; CommandError when the folder holds anything
        but an earlier demonstration, or when the configuration would lead out of it: to other data, or to a PACS that
        is not on this machine.
        """
        if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
            raise CommandError(f"{folder} holds something else than an earlier demonstration; choose another --out")
        load_settings(config)  # before an earlier demonstration is cleared away
        text = config.read_text(encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
        (folder / DEFAULT_CONFIG).write_text(text, encoding="utf-8")
        settings = load_settings(folder / DEFAULT_CONFIG)
        places = [place for place in settings.destination if isinstance(place, DimseDestination)]
        hosts = {settings.receiver.host, *(place.host for place in places)}
        if hosts - _LOOPBACK or len(places) != 1 or len(settings.destination) != 1:
            raise CommandError(f"{config} leads to {', '.join(sorted(hosts))}; the demonstration stays on 127.0.0.1")
        if not settings.node.data.is_relative_to(folder.resolve()):
            raise CommandError(f"{config} keeps its data in {settings.node.data}; the demonstration leaves them alone")
        return cls(folder, folder / DEFAULT_CONFIG, settings, places[0])

    @property
    def pacs(self) -> Peer:
        """The configuration's only destination, as the scanner calls it."""
        return Peer(self.place.ae_title, self.place.host, self.place.port, "SCANNER")


@contextmanager
def running(stage: Stage, pacs: str) -> Iterator[Pacs]:
    """The node and a PACS, ``archive`` or ``orthanc``, up and answering; both stopped at the end."""
    with ExitStack() as stack:
        place, receiver = stage.place, stage.settings.receiver
        holder: Pacs
        if pacs == "orthanc":
            web_port = place.port + 1000
            orthanc = OrthancProcess(
                stage.folder / "orthanc", place.ae_title, place.port, web_port, receiver.port,
                node_ae_title=stage.settings.node.ae_title, peers={"SCANNER": 11199},
            )  # fmt: skip
            try:
                holder = OrthancPacs(stack.enter_context(orthanc))
            except RuntimeError as error:
                raise CommandError(str(error)) from error
        else:
            node = RoutePeer(stage.settings.node.ae_title, receiver.host, receiver.port)
            archive = Archive(place.ae_title, place.port, stage.folder / "archive", route_to=[node])
            holder = ArchivePacs(stack.enter_context(archive))
        stack.enter_context(_node(stage))
        yield holder


@contextmanager
def _node(stage: Stage) -> Iterator[None]:
    log = (stage.folder / "node.log").open("wb")
    command = [sys.executable, "-m", "node.cli", "run", "--config", str(stage.config)]
    process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own interpreter and module
    receiver = stage.settings.receiver
    caller = receiver.calling_ae_titles[0].partition("@")[0]
    us = Peer(stage.settings.node.ae_title, receiver.host, receiver.port, caller, 5.0)
    try:
        end = time.monotonic() + _START_SECONDS
        while not _answers(us):
            if process.poll() is not None or time.monotonic() > end:
                raise CommandError(f"the node did not come up; {stage.folder / 'node.log'} says why")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def _answers(peer: Peer) -> bool:
    try:
        echo(peer)
    except SendError:
        return False
    return True
