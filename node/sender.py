"""What the deliverer needs of a destination, whatever wire leads there; one open connection is one ``with``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

CommitmentReport = Callable[[Dataset], None]
"""Is told the Event Information of a storage commitment's N-EVENT-REPORT (PS3.4 table J.3-2)."""


class SendError(Exception):
    """The peer could not be reached, refused, or did not take an instance; the text says which and why."""


class RefusedError(SendError):
    """The peer answered, and the answer was no: it certainly does not hold the instance."""


class NotOfferedError(Exception):
    """The peer stores, but does not offer what was asked of it: a query, or storage commitment."""


@dataclass(frozen=True)
class Outgoing:
    """One file to send, with what its presentation context needs."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @classmethod
    def of(cls, path: Path) -> Outgoing:
        """Read what is needed from the file meta information. Raises SendError when it is no DICOM file."""
        try:
            meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).file_meta
            return cls(
                path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
            )  # fmt: skip
        except InvalidDicomError as error:
            raise SendError(f"{path} is not a DICOM file (PS3.10): it has no file meta information") from error
        except (AttributeError, OSError) as error:
            raise SendError(f"{path} is not a DICOM file that can be sent: {error}") from error


@dataclass(frozen=True)
class Whereabouts:
    """What identifies an instance in a query."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


class Sender(Protocol):
    """An open way to one destination. Entering raises SendError when it is down or refuses."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def takes(self, sop_class_uid: str) -> bool:
        """Whether it accepts instances of this SOP class; only of those that it was opened for."""
        ...

    def store(self, file: Outgoing) -> None:
        """Send one instance and wait for the answer. Raises SendError unless the destination has it then."""
        ...

    def has(self, instance: Whereabouts) -> bool:
        """Whether it says that it holds the instance. Raises NotOfferedError when it cannot be asked, SendError when
        it does not answer."""
        ...

    def request_commitment(self, transaction_uid: str, files: Sequence[Outgoing]) -> None:
        """Ask it to take responsibility (N-ACTION); the answer comes later. Raises NotOfferedError or SendError."""
        ...
