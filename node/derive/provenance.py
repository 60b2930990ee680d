"""What made a virtual series, what its objects are called, and how Quarterdose recognises them again."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from preprocessing.role import Role

MANUFACTURER = "Quarterdose"
"""(0008,0070) and (0008,1090) of every object the product makes; routing rules at the PACS test for it."""

PRIVATE_GROUP = 0x0099
PRIVATE_CREATOR = "QUARTERDOSE"
IMPLEMENTATION_VERSION = "QUARTERDOSE_1"

_UID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "quarterdose")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"[ -\[\]-~]{1,64}")  # printable ASCII that fits VR LO, without the value separator


@dataclass(frozen=True)
class Provenance:
    """What made the picture.

    ``model_digest``: SHA-256 of the weights; ``inputs_digest``: SHA-256 over the SOP Instance UIDs and content
    digests of the sources; both 64 lower-case hex digits. ``created`` is part of the objects' bytes: a retry must pass
    the same; so are ``quality``, what quality control said of the inputs, in ASCII. With a time zone, ``created`` is
    written on the study's own clock if the sources say which that is.
    """

    model_name: str
    model_digest: str
    software_version: str
    inputs_digest: str
    roles: tuple[Role, ...]
    created: datetime.datetime
    quality: str = ""

    def __post_init__(self) -> None:
        for name, value in (("model_digest", self.model_digest), ("inputs_digest", self.inputs_digest)):
            if not _DIGEST.fullmatch(value):
                raise ValueError(f"{name} must be 64 lower-case hex digits (SHA-256), got {value!r}")
        for name, value in (("model_name", self.model_name), ("software_version", self.software_version)):
            if not _TEXT.fullmatch(value):  # the patient's character set may know nothing but ASCII
                raise ValueError(f"{name} must be 1 to 64 printable ASCII characters without backslash, got {value!r}")


def uid_for(study_uid: str, provenance: Provenance, kind: str, what: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that depends on nothing but its arguments: same inputs and weights, same UID."""
    name = "|".join((study_uid, provenance.inputs_digest, provenance.model_digest, kind, what))
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, name).int}"


IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(_UID_NAMESPACE, 'implementation').int}"


def is_ours(item: Dataset | Mapping[str, object]) -> bool:
    """Whether Quarterdose made this object, from a dataset or from its fields by keyword.

    Three independent marks, any of which is enough, because an archive may rewrite or drop one: Manufacturer, our
    private creator, and a Contributing Equipment item (PS3.3 C.12.1.1.9) that names us.
    """
    if str(item.get("Manufacturer") or "").strip().casefold() == MANUFACTURER.casefold():
        return True
    if isinstance(item, Dataset) and _has_private_creator(item):
        return True
    equipment: Any = item.get("ContributingEquipmentSequence") or ()
    return any(str(entry.get("Manufacturer") or "").strip() == MANUFACTURER for entry in equipment)


def _has_private_creator(dataset: Dataset) -> bool:
    creators = (dataset.get((PRIVATE_GROUP, element)) for element in range(0x10, 0x100))
    return any(creator is not None and creator.value == PRIVATE_CREATOR for creator in creators)
