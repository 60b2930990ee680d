"""Delivering into a folder: DICOM files for whoever watches it, written so that nobody sees half of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from node.files import safe_name, write_durably
from node.sender import NotOfferedError, Outgoing, SendError, Whereabouts


class FolderSender:
    """``node.sender.Sender`` for a folder: one file for each instance, named by its UID, the same each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> FolderSender:
        if not self._folder.is_dir():
            raise SendError(f"{self._folder} is not there: is its disk mounted? Make the folder, or change the path")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def takes(self, sop_class_uid: str) -> bool:
        return True  # nothing is negotiated

    def store(self, file: Outgoing) -> None:
        try:
            write_durably(file.path.read_bytes(), self._place(file.sop_instance_uid), self._folder / ".partial")
        except OSError as error:
            raise SendError(f"{self._folder} does not take the file: {error}") from error

    def has(self, instance: Whereabouts) -> bool:
        return self._place(instance.sop_instance_uid).exists()

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        raise NotOfferedError(f"{self._folder} is a folder: it makes no promises")

    def _place(self, sop_instance_uid: str) -> Path:
        return self._folder / f"{safe_name(sop_instance_uid)}.dcm"
