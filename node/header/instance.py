"""What the node must know of one SOP instance, read once at reception without its pixels."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.derive.provenance import PRIVATE_GROUP, is_ours
from node.header import acquired as header_acquired
from node.header import contrast as header_contrast
from node.header import diffusion as header_diffusion
from node.header import frames as header_frames
from node.header import patient as header_patient
from node.header.acquired import acquired
from node.header.contrast import contrast
from node.header.elements import Elements
from node.header.frames import Macros, Plane, Slices, Stack, declared_slices, slices
from node.header.patient import age_years, body_part, name_digest
from node.header.pixels import HeaderEnd, pixels, size
from node.header.sequence import TAGS as SEQUENCE_TAGS
from node.header.sequence import mr_sequence


class HeaderError(ValueError):
    """The bytes are no SOP instance that can be stored; the message says why in plain words."""


@dataclass(frozen=True)
class InstanceHeader:
    """One SOP instance. Times in ms, lengths in mm, angles in degrees, b in s/mm², dose in mmol/kg; None: not written.

    Values of enhanced instances are those of the first frame where a frame could differ; what frames do differ in is
    in ``stacks``. ``acquired`` is ISO 8601 in the scanner's local time, or "". ``ours``: made by Quarterdose.
    ``truncated``: the pixel data end before they should. ``unreadable``: elements that are malformed, taken as absent.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str = ""
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    study_date: str = ""
    accession_number: str = ""
    study_description: str = ""
    body_part: str = ""
    requested_priority: str = ""
    patient_name_digest: str = ""
    patient_age_years: int | None = None
    modality: str = ""
    manufacturer: str = ""
    model_name: str = ""
    station_name: str = ""
    image_type: tuple[str, ...] = ()
    series_description: str = ""
    protocol_name: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    acquired: str = ""

    sequence_name: str = ""
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    mr_acquisition_type: str = ""
    acquisition_contrast: str = ""
    complex_component: str = ""
    angio: bool = False
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_deg: float | None = None
    echo_train_length: int | None = None
    field_t: float | None = None
    units: str = ""

    contrast_agent: str = ""
    contrast_administered: bool | None = None
    contrast_volume_ml: float | None = None
    contrast_dose_ml: float | None = None
    ingredient_concentration_mmol_ml: float | None = None
    contrast_start: str = ""
    contrast_injections: int | None = None
    weight_kg: float | None = None
    dose_mmol_kg: float | None = None

    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    pixel_spacing: tuple[float, ...] = ()
    slice_thickness: float | None = None
    slice_spacing: float | None = None
    orientations: tuple[Plane, ...] = ()
    stacks: tuple[Stack, ...] = ()

    declared_instances: int | None = None
    declared_series_instances: int | None = None
    declared_slices: int | None = None
    declared_temporal_positions: int | None = None
    concatenation_uid: str = ""
    concatenation_total: int | None = None

    has_pixel_data: bool = False
    truncated: bool = False
    ours: bool = False
    unreadable: tuple[str, ...] = ()

    @property
    def b_values(self) -> tuple[float, ...]:
        """The different b-values, ascending."""
        return tuple(sorted({stack.b_value for stack in self.stacks if stack.b_value is not None}))

    @property
    def slice_positions(self) -> tuple[float, ...]:
        """mm along the slice normal, one per frame that has a geometry."""
        return tuple(position for stack in self.stacks for position in stack.positions)

    @property
    def orientation(self) -> Plane:
        """Image Orientation (Patient) of the first frame; empty when there is none."""
        return self.orientations[0] if self.orientations else ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for a table's column."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> InstanceHeader:
        """What ``to_json`` gave, also after a way through JSON text. Raises HeaderError for keys it does not know."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise HeaderError(f"stored header has unknown fields {', '.join(unknown)}: written by another version")
        given = {name: _frozen(value) for name, value in values.items() if name != "stacks"}
        stacks = tuple(
            Stack(**{name: _frozen(value) for name, value in stack.items()}) for stack in values.get("stacks", ())
        )
        return cls(**given, stacks=stacks)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


# PS3.5 section 9.1. A component's leading zero is tolerated: scanners write it, and it is harmless.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_UIDS = {
    "sop_class_uid": "SOPClassUID", "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID", "series_instance_uid": "SeriesInstanceUID",
}  # fmt: skip
_TEXTS = {
    "frame_of_reference_uid": "FrameOfReferenceUID", "patient_id": "PatientID", "study_date": "StudyDate",
    "accession_number": "AccessionNumber", "modality": "Modality", "manufacturer": "Manufacturer",
    "model_name": "ManufacturerModelName", "station_name": "StationName", "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName", "study_description": "StudyDescription",
}  # fmt: skip
_MEASURES = "PixelMeasuresSequence"
_TAGS = [
    *_UIDS.values(), *_TEXTS.values(), "SpecificCharacterSet", "ImageType", "SeriesNumber", "InstanceNumber",
    "RequestedProcedurePriority", "RequestAttributesSequence", "Rows", "Columns",
    "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing",
    "ImagesInAcquisition", "NumberOfSeriesRelatedInstances", "NumberOfTemporalPositions", "ConcatenationUID",
    "InConcatenationTotalNumber", "ContributingEquipmentSequence", (PRIVATE_GROUP, 0x10), *SEQUENCE_TAGS,
    *header_acquired.TAGS, *header_patient.TAGS,
    *header_contrast.TAGS, *header_diffusion.TAGS, *header_frames.TAGS, *header_frames.DECLARED_TAGS,
]  # fmt: skip
_WANTED = list(dict.fromkeys(Tag(tag) for tag in _TAGS))


def scan(source: Path | BinaryIO) -> InstanceHeader:
    """Read one DICOM file's header; the pixel data are looked at, not loaded.

    Raises HeaderError for what is not DICOM (PS3.10), cannot be parsed, ends within the header, or has no valid SOP
    Class, SOP Instance, Study or Series UID (PS3.5 section 9.1). Pixel data that end early set ``truncated``.
    """
    if isinstance(source, Path):
        with source.open("rb") as opened:
            return scan(opened)
    end = HeaderEnd(source)
    dataset = _read(source, end)
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    inflated = syntax == DeflatedExplicitVRLittleEndian
    _check_end(source, end, dataset, inflated)
    elements = Elements(dataset)
    identity: dict[str, Any] = {field: _uid(elements, keyword) for field, keyword in _UIDS.items()}
    macros = Macros(elements)
    image_type = elements.texts("ImageType")
    found = slices(elements, macros, image_type, elements.text("Manufacturer"))
    agent = contrast(elements, macros.items("ContrastBolusUsageSequence"))
    seen = pixels(source, end, elements, inflated)
    return InstanceHeader(
        **identity, **asdict(mr_sequence(elements, macros)), **_origin(elements),
        transfer_syntax_uid=syntax,
        image_type=image_type,
        series_number=elements.integer("SeriesNumber"),
        instance_number=elements.integer("InstanceNumber"),
        acquired=acquired(elements, macros),
        patient_name_digest=name_digest(elements),
        patient_age_years=age_years(elements),
        body_part=body_part(elements, macros),
        requested_priority=_requested_priority(elements),
        contrast_agent=agent.agent,
        contrast_administered=agent.administered,
        contrast_volume_ml=agent.volume_ml,
        contrast_dose_ml=agent.total_dose_ml,
        ingredient_concentration_mmol_ml=agent.concentration_mmol_ml,
        contrast_start=agent.start,
        contrast_injections=agent.injections,
        weight_kg=agent.weight_kg,
        dose_mmol_kg=agent.dose_mmol_kg,
        rows=_tile(elements.integer("Rows"), found),
        columns=_tile(elements.integer("Columns"), found),
        frames=found.frames,
        pixel_spacing=elements.numbers("PixelSpacing") or _measures(macros),
        slice_thickness=_first(elements.number("SliceThickness"), macros.number(_MEASURES, "SliceThickness")),
        slice_spacing=_first(
            elements.number("SpacingBetweenSlices"), macros.number(_MEASURES, "SpacingBetweenSlices")
        ),
        orientations=found.planes,
        stacks=found.stacks,
        declared_instances=elements.integer("ImagesInAcquisition"),
        declared_series_instances=elements.integer("NumberOfSeriesRelatedInstances"),
        declared_slices=declared_slices(elements),
        declared_temporal_positions=elements.integer("NumberOfTemporalPositions"),
        concatenation_uid=elements.text("ConcatenationUID"),
        concatenation_total=elements.integer("InConcatenationTotalNumber"),
        has_pixel_data=seen.present,
        truncated=seen.truncated,
        ours=_has_our_mark(dataset),
        unreadable=tuple(elements.unreadable),
    )  # fmt: skip


def _read(source: BinaryIO, end: HeaderEnd) -> FileDataset:
    """The elements that are wanted. Raises HeaderError."""
    try:
        return read_partial(source, stop_when=end, specific_tags=list(_WANTED))
    except InvalidDicomError as error:
        raise HeaderError("not a DICOM file: the DICM mark of PS3.10 is missing") from error
    except zlib.error as error:
        raise HeaderError(f"truncated or damaged: the deflated data set cannot be inflated ({error})") from error
    # Damaged lengths and VRs surface in pydicom as whatever they break first.
    except Exception as error:
        raise HeaderError(f"cannot be parsed: {error or type(error).__name__}") from error


def _has_our_mark(dataset: FileDataset) -> bool:
    try:
        return is_ours(dataset)
    except Exception:  # noqa: BLE001 - pydicom reads a value when it is asked for it; one that is damaged is no mark
        return False


def _origin(elements: Elements) -> dict[str, Any]:
    """The plain texts, by field."""
    return {field: elements.text(keyword) for field, keyword in _TEXTS.items()}


def _requested_priority(elements: Elements) -> str:
    """Requested Procedure Priority (0040,1003): STAT, HIGH, ROUTINE, ...; of the request, where images repeat it."""
    inner = (item.text("RequestedProcedurePriority") for item in elements.items("RequestAttributesSequence"))
    return elements.text("RequestedProcedurePriority") or next((text for text in inner if text), "")


def _uid(elements: Elements, keyword: str) -> str:
    uid = elements.text(keyword)
    if not uid:
        raise HeaderError(f"{_spoken(keyword)} is missing")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise HeaderError(
            f"{_spoken(keyword)} {uid[:80]!r} is not a UID: digits and dots, at most 64 characters (PS3.5 section 9.1)"
        )
    return uid


def _spoken(keyword: str) -> str:
    return keyword.replace("UID", " UID").replace("Instance", " Instance").replace("Class", " Class")


def _check_end(source: BinaryIO, end: HeaderEnd, dataset: FileDataset, inflated: bool) -> None:
    """A header that stops in mid-element would otherwise pass for a short one: pydicom's reader does not mind."""
    if end.pixel_length is not None or inflated or end.last is None:
        return
    total = size(source)
    if len(dataset) == 0 or (end.reach is not None and (end.reach > total or 0 < total - end.reach < 8)):
        raise HeaderError(f"truncated: the file ends in the middle of its header, after {end.last}")


def _tile(pixels_along: int | None, found: Slices) -> int | None:
    return pixels_along // found.tiles if pixels_along and found.tiles else pixels_along


def _measures(macros: Macros) -> tuple[float, ...]:
    return next((spacing for item in macros.items(_MEASURES) if (spacing := item.numbers("PixelSpacing"))), ())


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
