"""Who is examined, when and on what, and UIDs that depend on nothing else: the same seed gives the same bytes."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from simulator.scanner import Scanner
from simulator.subject import Person

# Only names the space that our UIDs are hashed in (PS3.5 B.2: UUID-derived UIDs).
_NAMESPACE = uuid.UUID("6b1f6b8e-3f0c-5b53-9d2e-7a3b61c5a0d4")
IMPLEMENTATION_CLASS = UID(f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}")
IMPLEMENTATION_VERSION = "QDOSE_SIM_1"


def uid(*parts: object) -> UID:
    """The UID of whatever ``parts`` name."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(str(part) for part in parts)).int}")


def decimal(value: float) -> DSfloat:
    """A decimal string that fits its 16 characters (PS3.5 6.2)."""
    return DSfloat(float(value), auto_format=True)


@dataclass(frozen=True)
class Examination:
    """One study. ``key`` seeds its UIDs; ``started`` is the beginning of the examination."""

    key: str
    person: Person
    scanner: Scanner
    started: datetime

    @property
    def study_uid(self) -> UID:
        """Study Instance UID."""
        return uid(self.key, "study")

    @property
    def frame_of_reference_uid(self) -> UID:
        """Frame of Reference UID, one for all series: the patient stays on the table."""
        return uid(self.key, "frame of reference")

    def series_uid(self, number: int) -> UID:
        """Series Instance UID."""
        return uid(self.key, "series", number)

    def instance_uid(self, number: int, instance: int) -> UID:
        """SOP Instance UID."""
        return uid(self.key, "series", number, "instance", instance)

    def at(self, minute: float) -> datetime:
        """The clock at a minute of the examination."""
        return self.started + timedelta(minutes=minute)

    @property
    def safe_name(self) -> str:
        """The patient's name as a folder name."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.person.name).strip("_")


def date_text(moment: datetime) -> str:
    """DA."""
    return moment.strftime("%Y%m%d")


def time_text(moment: datetime) -> str:
    """TM with microseconds."""
    return moment.strftime("%H%M%S.%f")
