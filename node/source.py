"""What the retriever needs of a source, whatever wire leads there; one open connection is one ``with``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from pydicom.dataset import Dataset

from node.sender import SendError

Stopped = Callable[[], bool]
"""Whether somebody has called the retrieval off."""


class RetrieveError(SendError):
    """The source could not be asked, or did not do what was asked; the text says why."""


class StoppedError(Exception):
    """Somebody called the retrieval off while it ran."""


@dataclass(frozen=True)
class StudyFound:
    """A study that a source holds, as its answer says; texts are empty where it does not say. ``issuer`` is the Issuer
    of Patient ID (0010,0021)."""

    study_instance_uid: str
    accession_number: str
    study_date: str
    description: str
    modalities: tuple[str, ...]
    patient_id: str = ""
    issuer: str = ""


@dataclass(frozen=True)
class SeriesFound:
    """A series that a source holds; ``instances`` is how many of it (0020,1209), None where it does not say."""

    series_instance_uid: str
    modality: str
    instances: int | None


@dataclass(frozen=True)
class InstanceFound:
    """An instance that a source holds; ``sop_class_uid`` is empty where it does not say."""

    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True)
class Part:
    """What is to be retrieved: a study, one of its series, or some of that one's instances."""

    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uids: tuple[str, ...] = ()


def is_uid(text: str) -> bool:
    """Whether it may stand in an address, a file or a query: peers' UIDs break the finer rules of PS3.5 section 9.1."""
    return _UID.fullmatch(text) is not None


_UID = re.compile(r"[0-9.]{1,64}")


def count_told(value: object) -> int | None:
    """A peer's count, an IS of at most 12 characters (PS3.5 section 6.2); None where it tells something else."""
    text = "" if value is None else str(value)
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_IS else None


_LONGEST_IS = 12


class Search(Protocol):
    """An open way to ask a source. Entering raises SendError when it is down or refuses; the questions raise
    RetrieveError when it does not answer, NotOfferedError when it never will."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def studies(self, keys: Dataset) -> Sequence[StudyFound]:
        """The studies that match the keys (PS3.4 C.6.2.1)."""
        ...

    def series(self, study_instance_uid: str) -> Sequence[SeriesFound]:
        """Every series of a study."""
        ...

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> Sequence[InstanceFound]:
        """Every instance of a series."""
        ...


class Retrieval(Search, Protocol):
    """An open way to ask a source and to have instances brought."""

    def retrieve(self, part: Part, stopped: Stopped) -> str:
        """Have a part of a study brought. Returns what the source says went wrong, "" for success: it is for the log,
        for only what arrives counts.

        Raises RetrieveError when it does not come to an end in time, StoppedError once ``stopped`` says so,
        NotOfferedError when this source does not do it at all.
        """
        ...
