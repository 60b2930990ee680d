"""Where a study's files lie, and how a file is written so that a crash leaves either all of it or none."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from preprocessing.role import Role


def safe_name(text: str) -> str:
    """A short file name for any text from the wire: the text itself never becomes part of a path."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def make_data_folder(folder: Path) -> None:
    """Have the data folder. Raises OSError that names the key of the configuration and the remedy."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the data folder {folder} is not there and cannot be made ({error.strerror}): set node.data to a folder "
            "that the user who runs the node may write"
        ) from error


@dataclass(frozen=True)
class DataFolder:
    """The node's data folder: ``incoming/``, ``journal/``, ``quarantine/``, ``models/`` and one folder per study."""

    root: Path

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def journal(self) -> Path:
        """Segments of instances that were received a moment ago (node.receive.journal)."""
        return self.root / "journal"

    def quarantined(self, digest: str) -> Path:
        return self.root / "quarantine" / f"{digest}.dcm"

    def received(self, study_key: str, series_key: str, sop_instance_uid: str, digest: str) -> Path:
        """The place of one version of one instance: named by what it is, so that writing it twice is harmless."""
        name = f"{safe_name(sop_instance_uid)}-{digest[:12]}.dcm"
        return self.root.joinpath("studies", study_key, "received", series_key, name)

    def model(self, digest: str) -> Path:
        """Where a model that was taken in is kept."""
        return self.root / "models" / digest

    def work(self, study_key: str, run: int) -> Work:
        return Work(self.root / "studies" / study_key / f"run-{run:03d}")


@dataclass(frozen=True)
class Work:
    """The intermediate and final files of one run of the workflow over one study."""

    folder: Path

    def converted(self, role: Role) -> Path:
        return self.folder / "converted" / f"{role}.npz"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared.npz"

    @property
    def synthesis(self) -> Path:
        return self.folder / "synthesis.npz"

    def derived(self, kind: str, sop_instance_uid: str) -> Path:
        return self.folder / "derived" / kind / f"{safe_name(sop_instance_uid)}.dcm"


def write_durably(data: bytes, final: Path, incoming: Path) -> None:
    """Put ``data`` at ``final``: temporary file, fsync, rename, fsync of every folder that gained an entry."""
    incoming.mkdir(parents=True, exist_ok=True)
    temporary = incoming / uuid.uuid4().hex
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for folder in _make_folders(final.parent):
            sync(folder)
        temporary.replace(final)
        sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


class Folders:
    """Folders below ``root`` that are there and will be after a crash; for many threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._durable: set[Path] = set()

    def has(self, folder: Path) -> bool:
        """Whether it is known to be there, and durable: without asking the disk."""
        return folder in self._durable

    def make(self, folder: Path) -> None:
        """Have the folder, its entry and those of the folders above it on the disk. Raises OSError.

        Another thread may have made it a moment ago without having fsynced it: only what went through here is known to
        be durable.
        """
        if self.has(folder):
            return
        with self._lock:
            folder.mkdir(parents=True, exist_ok=True)
            above = folder
            while above != self._root and above not in self._durable:
                above = above.parent
                sync(above)
            if len(self._durable) > _REMEMBERED_FOLDERS:
                self._durable.clear()
            self._durable.add(folder)

    def sync(self, folder: Path) -> None:
        """Have the entries of the folder on the disk. Raises OSError; a folder that is gone is made at the next try."""
        try:
            sync(folder)
        except OSError:
            self.forget(folder)
            raise

    def forget(self, folder: Path) -> None:
        """It is gone."""
        self._durable.discard(folder)


_REMEMBERED_FOLDERS = 10_000


def _make_folders(folder: Path) -> list[Path]:
    """Make the folder and those above it; returns the existing folders that gained an entry."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [path.parent for path in missing]


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it where the descriptor stands. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync(path: Path) -> None:
    """Have the bytes of a file, or the entries of a folder, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
