"""What the archive holds: files as they came over the wire, and an index of their headers in memory."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

PRODUCT = "Quarterdose"
"""Manufacturer (0008,0070) of derived series, which must not be routed to where they came from."""

STUDY_KEYS = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName",
)
SERIES_KEYS = (
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "ProtocolName",
    "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "FrameOfReferenceUID", "StationName",
)
IMAGE_KEYS = (
    "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "ImageType", "NumberOfFrames", "Rows", "Columns", "ContentDate",
    "ContentTime", "AcquisitionNumber",
)


@dataclass(frozen=True)
class StoredInstance:
    """One instance of the archive; ``fields`` are the attributes it can be found by."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path
    fields: Dataset = field(compare=False, repr=False)

    @property
    def made_by_quarterdose(self) -> bool:
        """Whether the product itself made it."""
        return str(self.fields.get("Manufacturer") or "").strip() == PRODUCT


class Index:
    """Instances by SOP Instance UID, in the order of arrival. What lies in ``folder`` at the start is indexed again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._instances: dict[str, StoredInstance] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*/*.dcm")):
            instance = _describe(pydicom.dcmread(path, stop_before_pixels=True), path)
            self._instances[instance.sop_instance_uid] = instance

    def add(self, encoded: bytes) -> tuple[StoredInstance, bool]:
        """Keep the Part 10 file as it is, and say whether it is news.

        The same SOP Instance UID again takes the place of the one before; the same bytes again are no news.
        Raises ``ValueError`` if a UID is missing, or what pydicom raises if it is not DICOM.
        """
        dataset = pydicom.dcmread(io.BytesIO(encoded), stop_before_pixels=True)
        instance = _describe(dataset, self._folder)
        path = self._folder / _safe(instance.study_uid) / f"{_safe(instance.sop_instance_uid)}.dcm"
        path.parent.mkdir(exist_ok=True)
        if path.exists() and path.read_bytes() == encoded:
            return _describe(dataset, path), False
        partial = path.with_suffix(f".{threading.get_ident()}.partial")
        partial.write_bytes(encoded)
        partial.replace(path)
        stored = _describe(dataset, path)
        with self._lock:
            self._instances[stored.sop_instance_uid] = stored
        return stored, True

    def all(self) -> tuple[StoredInstance, ...]:
        """Every instance."""
        with self._lock:
            return tuple(self._instances.values())

    def of_study(self, study_uid: str) -> tuple[StoredInstance, ...]:
        """The instances of a study."""
        return tuple(instance for instance in self.all() if instance.study_uid == study_uid)

    def get(self, sop_instance_uid: str) -> StoredInstance | None:
        """The instance of that UID, if it is held."""
        with self._lock:
            return self._instances.get(sop_instance_uid)


def _describe(dataset: Dataset, path: Path) -> StoredInstance:
    uids = {name: str(dataset.get(name) or "") for name in (
        "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"
    )}
    missing = [name for name, uid in uids.items() if not uid]
    if missing:
        raise ValueError(f"the instance has no {missing[0]}")
    fields = Dataset()
    for keyword in (*STUDY_KEYS, *SERIES_KEYS, *IMAGE_KEYS):
        if keyword in dataset:
            fields[keyword] = dataset[keyword]
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    study, series, sop_class, sop_instance = uids.values()
    return StoredInstance(study, series, sop_class, sop_instance, syntax, path, fields)


def _safe(uid: str) -> str:
    """A name for the file system: a UID from the wire may hold anything."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]
