"""The header every derived object starts from: whose study it is, what made it, from what, and that it is virtual."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.derive.provenance import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    MANUFACTURER,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    Provenance,
    uid_for,
)
from node.derive.source import Instance, SourceSeries

SERIES_DESCRIPTION = "VIRTUAL full-dose T1ce (Quarterdose)"
CODING_SCHEME = "99QUARTERDOSE"

_COPIED = (  # Patient, Patient Study, General Study (PS3.3 C.7.1.1, C.7.2.2, C.7.2.1), and what joins it to the order
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "EthnicGroup", "PatientComments", "PatientSpeciesDescription", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts", "Allergies",
    "PregnancyStatus", "AdditionalPatientHistory", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "PhysiciansOfRecord", "ProcedureCodeSequence",
    "RequestingService", "ReferencedStudySequence", "RequestAttributesSequence",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
)
_NEVER_ABSENT = (  # type 2: present, though the source may lack them
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)


def start_object(
    source: SourceSeries, others: Iterable[Instance], provenance: Provenance, kind: str, sop_class_uid: str
) -> Dataset:
    """A dataset with file meta information and everything that does not depend on the kind of object."""
    header = source.header
    dataset = Dataset()
    for keyword in _COPIED:
        if keyword in header:
            dataset[keyword] = header[keyword]
    for keyword in _NEVER_ABSENT:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    study_uid = str(header.StudyInstanceUID)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = uid_for(study_uid, provenance, kind, "instance 1")
    dataset.SeriesInstanceUID = uid_for(study_uid, provenance, kind, "series")
    dataset.InstanceNumber = 1
    dataset.Modality = "MR"
    dataset.BodyPartExamined = "BRAIN"
    dataset.FrameOfReferenceUID = header.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = header.get("PositionReferenceIndicator")
    created = _where_acquired(provenance.created, header)
    _set_times(dataset, created)
    _set_equipment(dataset, source, provenance, created)
    _set_labels(dataset, provenance)
    _set_references(dataset, source, others)
    if source.lossy:
        _set_lossy(dataset, header)
    _set_private(dataset, provenance)
    dataset.file_meta = _file_meta(dataset)
    return dataset


def describe(provenance: Provenance) -> str:
    """One paragraph for people who open the header."""
    roles = ", ".join(role.value for role in provenance.roles)
    quality = f" {provenance.quality}" if provenance.quality else ""
    return (
        f"VIRTUAL image, not acquired: full-dose contrast-enhanced T1 synthesised by the neural network "
        f"{provenance.model_name} (SHA-256 {provenance.model_digest}) from {roles}. "
        "The only contrast agent injected is that of the low-dose series. For research only."
        f"{quality}"
    )


def _set_times(dataset: Dataset, created: datetime.datetime) -> None:
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    for prefix in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{prefix}Date", date)
        setattr(dataset, f"{prefix}Time", time)


def _where_acquired(created: datetime.datetime, header: Dataset) -> datetime.datetime:
    """The time on the clock that the study's other times are of (PS3.3 C.12.1.1.8), if that is known."""
    offset = str(header.get("TimezoneOffsetFromUTC") or "")
    if created.tzinfo is None or not offset:
        return created
    return created.astimezone(datetime.datetime.strptime(offset, "%z").tzinfo)


def _set_equipment(
    dataset: Dataset, source: SourceSeries, provenance: Provenance, created: datetime.datetime
) -> None:
    """General and Enhanced General Equipment (PS3.3 C.7.5.1, C.7.5.2): us; the scanner is a contributor."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.DeviceSerialNumber = provenance.model_digest
    dataset.SoftwareVersions = provenance.software_version
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.AcquisitionEquipment)]
    scanner.Manufacturer = str(source.header.get("Manufacturer") or "") or "unknown"
    for keyword in ("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "StationName"):
        if source.header.get(keyword):
            scanner[keyword] = source.header[keyword]
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.ProcessingEquipment)]
    ours.Manufacturer = MANUFACTURER
    ours.ManufacturerModelName = provenance.model_name
    ours.SoftwareVersions = provenance.software_version
    ours.DeviceSerialNumber = provenance.model_digest
    ours.ContributionDateTime = created.strftime("%Y%m%d%H%M%S.%f")
    ours.ContributionDescription = describe(provenance)
    dataset.ContributingEquipmentSequence = [scanner, ours]


def _set_labels(dataset: Dataset, provenance: Provenance) -> None:
    dataset.SeriesDescription = SERIES_DESCRIPTION
    dataset.ImageComments = describe(provenance)
    dataset.ContentQualification = "RESEARCH"
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    scheme.CodingSchemeName = "Quarterdose"
    scheme.CodingSchemeResponsibleOrganization = "Quarterdose"
    dataset.CodingSchemeIdentificationSequence = [scheme]


def derivation_codes() -> list[CodedConcept]:
    """How the picture came about (PS3.16 CID 7203 is extensible; it has no code for synthesis by a network)."""
    return [
        CodedConcept("VIRTUAL-T1CE", CODING_SCHEME, "Virtual contrast enhancement by neural network"),
        CodedConcept.from_code(codes.DCM.PixelByPixelMask),
    ]


def _set_references(dataset: Dataset, source: SourceSeries, others: Iterable[Instance]) -> None:
    """Common Instance Reference (PS3.3 C.12.2) and Source Image Evidence (C.8.13.2.1): every input."""
    instances = list(dict.fromkeys([*(frame.instance for frame in source.frames), *others]))
    by_series: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        by_series.setdefault((instance.study_uid, instance.series_uid), []).append(instance)
    here = str(source.header.StudyInstanceUID)
    evidence: dict[str, list[Dataset]] = {}
    local: list[Dataset] = []
    elsewhere: dict[str, list[Dataset]] = {}
    for (study_uid, series_uid), members in by_series.items():
        evidence.setdefault(study_uid, []).append(_series_item(series_uid, members, "ReferencedSOPSequence"))
        item = _series_item(series_uid, members, "ReferencedInstanceSequence")
        (local if study_uid == here else elsewhere.setdefault(study_uid, [])).append(item)
    dataset.ReferencedSeriesSequence = local
    if elsewhere:
        dataset.StudiesContainingOtherReferencedInstancesSequence = [
            _study_item(study_uid, items) for study_uid, items in elsewhere.items()
        ]
    dataset.SourceImageEvidenceSequence = [_study_item(study_uid, items) for study_uid, items in evidence.items()]


def _study_item(study_uid: str, series: list[Dataset]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = series
    return item


def _series_item(series_uid: str, members: list[Instance], keyword: str) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    setattr(item, keyword, [reference(member) for member in members])
    return item


def reference(instance: Instance) -> Dataset:
    """SOP Instance Reference Macro (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def _set_lossy(dataset: Dataset, header: Dataset) -> None:
    dataset.LossyImageCompression = "01"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:
            dataset[keyword] = header[keyword]


PRIVATE_ATTRIBUTES: dict[int, tuple[str, Callable[[Provenance], str | list[str]]]] = {
    0x01: ("what the object is", lambda provenance: "VIRTUAL"),
    0x02: ("name of the model", lambda provenance: provenance.model_name),
    0x03: ("SHA-256 of its weights, hex", lambda provenance: provenance.model_digest),
    0x04: ("version of Quarterdose", lambda provenance: provenance.software_version),
    0x05: ("SHA-256 of the inputs, hex", lambda provenance: provenance.inputs_digest),
    0x06: ("roles of the inputs", lambda provenance: [role.value for role in provenance.roles]),
}
"""The provenance for machines, in a private block (PS3.5 7.8.1), all of VR LO: element, meaning, value."""


def _set_private(dataset: Dataset, provenance: Provenance) -> None:
    block = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    for element, (_, value) in PRIVATE_ATTRIBUTES.items():
        block.add_new(element, "LO", value(provenance))


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta
