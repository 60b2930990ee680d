"""The single 2D images inside a series' files: classic images, mosaic tiles and frames of multi-frame objects alike."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from preprocessing import mosaic
from preprocessing.bvalue import b_value, is_isotropic
from preprocessing.conversion_error import ConversionError
from preprocessing.frame import Frame
from preprocessing.volume import FloatArray

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
UNASSIGNED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian}
SEND_AGAIN = "Send the series again from the scanner or the PACS"


class Attribute:
    """An attribute by keyword, and the functional group that holds it in enhanced images (PS3.3 C.7.6.16)."""

    def __init__(self, keyword: str, group: str = "") -> None:
        self.tag, self.group = Tag(keyword), Tag(group or 0)


POSITION = Attribute("ImagePositionPatient", "PlanePositionSequence")
ORIENTATION = Attribute("ImageOrientationPatient", "PlaneOrientationSequence")
SPACING = Attribute("PixelSpacing", "PixelMeasuresSequence")
SLOPE = Attribute("RescaleSlope", "PixelValueTransformationSequence")
INTERCEPT = Attribute("RescaleIntercept", "PixelValueTransformationSequence")
FRAME_TYPE = Attribute("FrameType", "MRImageFrameTypeSequence")
COMPLEX_COMPONENT = Attribute("ComplexImageComponent", "MRImageFrameTypeSequence")
IMAGE_TYPE = Attribute("ImageType")
EFFECTIVE_ECHO_TIME = Attribute("EffectiveEchoTime", "MREchoSequence")
ECHO_TIME = Attribute("EchoTime")
TEMPORAL_INDEX = Attribute("TemporalPositionIndex", "FrameContentSequence")
TEMPORAL_IDENTIFIER = Attribute("TemporalPositionIdentifier")
FRAME_ACQUISITION = Attribute("FrameAcquisitionNumber", "FrameContentSequence")
ACQUISITION = Attribute("AcquisitionNumber")
STACK = Attribute("StackID", "FrameContentSequence")
STACK_POSITION = Attribute("InStackPositionNumber", "FrameContentSequence")


@dataclass(frozen=True)
class Source:
    """One file of the series, parsed."""

    path: Path
    dataset: Dataset

    @property
    def kind(self) -> str:
        """How the file holds its images: ``classic``, ``mosaic`` or ``multi-frame``."""
        if PER_FRAME in self.dataset:
            return "multi-frame"
        return "mosaic" if mosaic.is_mosaic(self.dataset) else "classic"


def read_source(path: Path) -> Source:
    """The file, parsed. Raises ``ConversionError`` when it is not DICOM, has no pixels or is not a greyscale image."""
    try:
        dataset = dcmread(path)
    except InvalidDicomError as error:
        raise ConversionError(path.name, "is not a DICOM file", "Remove it from the series") from error
    except (EOFError, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise ConversionError(path.name, f"cannot be parsed ({error})", SEND_AGAIN) from error
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ConversionError(path.name, "has no pixel data, or is cut off before it", SEND_AGAIN)
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise ConversionError(path.name, "is a colour picture, not an MR image", "Send the MR series itself")
    return Source(path, dataset)


def frames_of(source: Source) -> Iterator[Frame]:
    """Every 2D image in the file, in the file's order."""
    if source.kind == "multi-frame":
        yield from _enhanced(source)
    elif source.kind == "mosaic":
        yield from _tiles(source)
    else:
        yield _frame(source, source.path.name, [source.dataset], lambda: _pixels(source))


def _enhanced(source: Source) -> Iterator[Frame]:
    dataset = source.dataset
    items = dataset[PER_FRAME].value
    declared = int(dataset.get("NumberOfFrames", 1))
    if len(items) != declared:
        raise ConversionError(source.path.name, f"declares {declared} frames and describes {len(items)}", SEND_AGAIN)
    shared = list(dataset.get(SHARED, []))
    for number, item in enumerate(items):
        places = [*_unfolded(item), *(place for group in shared for place in _unfolded(group)), dataset]
        where = f"frame {number + 1} of {source.path.name}"
        yield _frame(source, where, places, lambda number=number: _pixels(source)[number])  # type: ignore[misc]


def _unfolded(group: Dataset) -> list[Dataset]:
    """A functional group item and, for Legacy Converted images (PS3.3 C.7.6.16.2.25), its unassigned attributes."""
    return [group, *(item for name in UNASSIGNED for item in group.get(name, []))]


def _tiles(source: Source) -> Iterator[Frame]:
    whole = _frame(source, source.path.name, [source.dataset], lambda: _pixels(source))
    try:
        layout = mosaic.layout_of(source.dataset)
    except ValueError as error:
        remedy = "Send the series as single images or Enhanced MR"
        raise ConversionError(source.path.name, str(error), remedy) from error
    yield from mosaic.tiles(whole, layout)


def _frame(source: Source, where: str, places: Sequence[Dataset], decode: Callable[[], NDArray[Any]]) -> Frame:
    position, orientation, spacing = (
        _located(places, attribute, count, where)
        for attribute, count in ((POSITION, 3), (ORIENTATION, 6), (SPACING, 2))
    )
    row, column = orientation[:3], orientation[3:]
    if abs(row @ column) > 0.01 or min(np.linalg.norm(row), np.linalg.norm(column)) < 0.9 or spacing.min() <= 0:
        raise ConversionError(where, f"has the orientation {orientation} and pixel spacing {spacing}", SEND_AGAIN)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    slope, intercept = _number(places, SLOPE, default=1.0), _number(places, INTERCEPT)
    return Frame(
        where, position, row, column / np.linalg.norm(column), (float(spacing[0]), float(spacing[1])),
        (int(source.dataset.Rows), int(source.dataset.Columns)), b_value(places), is_isotropic(places), _kind(places),
        _number(places, EFFECTIVE_ECHO_TIME, ECHO_TIME), _number(places, TEMPORAL_INDEX, TEMPORAL_IDENTIFIER),
        _number(places, FRAME_ACQUISITION, ACQUISITION), str(_value(places, STACK) or ""),
        int(_number(places, STACK_POSITION)), lambda: _scaled(decode(), slope, intercept),
    )


def _pixels(source: Source) -> NDArray[Any]:
    """The file's stored values, [frame,] row, column, in any transfer syntax that pydicom decodes (kept by pydicom)."""
    dataset = source.dataset
    frames = int(dataset.get("NumberOfFrames", 1))
    if dataset.file_meta.get("TransferSyntaxUID") in NATIVE and dataset.get("BitsAllocated") == 16:
        # pydicom's own way costs ten times as much, a third of the whole conversion of a classic series.
        stored, shape = dataset.get("PixelData", b""), (int(dataset.Rows), int(dataset.Columns))
        if len(stored) == 2 * frames * shape[0] * shape[1]:
            values = np.frombuffer(stored, dtype="<i2" if dataset.get("PixelRepresentation") == 1 else "<u2")
            return values.reshape((frames, *shape) if PER_FRAME in dataset else shape)
    try:
        array = source.dataset.pixel_array
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError, TypeError, KeyError) as error:
        raise ConversionError(source.path.name, f"has unreadable pixel data ({error})", SEND_AGAIN) from error
    return array[None] if PER_FRAME in source.dataset and frames == 1 and array.ndim == 2 else array


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> FloatArray:
    if slope == 1.0 and intercept == 0.0:
        return stored.astype(np.float32)
    return (stored * np.float64(slope) + intercept).astype(np.float32)


def _kind(places: Sequence[Dataset]) -> tuple[str, ...]:
    """Frame Type or Image Type, with the complex component: what sort of image this is."""
    frame_type = _value(places, FRAME_TYPE) or _value(places, IMAGE_TYPE) or ()
    values = [frame_type] if isinstance(frame_type, str) else list(frame_type)
    return (*(str(value).upper() for value in values), str(_value(places, COMPLEX_COMPONENT) or ""))


def _value(places: Sequence[Dataset], attribute: Attribute) -> Any:
    """The attribute from the first place that has it, inside its functional group or directly."""
    for place in places:
        if attribute.group in place:
            for item in place[attribute.group].value or []:
                if attribute.tag in item and (value := item[attribute.tag].value) not in (None, ""):
                    return value
        if attribute.tag in place and (value := place[attribute.tag].value) not in (None, ""):
            return value
    return None


def _located(places: Sequence[Dataset], attribute: Attribute, count: int, where: str) -> NDArray[np.float64]:
    """``count`` finite numbers without which nobody knows where the image lies."""
    try:
        numbers = np.asarray(_value(places, attribute), dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        name, tag = dictionary_description(attribute.tag), str(attribute.tag).upper()
        raise ConversionError(where, f"has no usable {name} {tag}, so nobody knows where it lies", SEND_AGAIN)
    return numbers


def _number(places: Sequence[Dataset], *attributes: Attribute, default: float = 0.0) -> float:
    """The first of the attributes that is a number."""
    for attribute in attributes:
        try:
            number = float(_value(places, attribute))
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            return number
    return default
