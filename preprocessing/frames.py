"""The single 2D images inside a series' files: classic images, mosaic tiles and frames of multi-frame objects alike."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from preprocessing import mosaic
from preprocessing.bvalue import b_value, is_isotropic
from preprocessing.conversion_error import ConversionError
from preprocessing.frame import Frame
from preprocessing.volume import FloatArray

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
UNASSIGNED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
SEND_AGAIN = "Send the series again from the scanner or the PACS"


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
    position = _numbers(places, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _numbers(places, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(places, "PixelMeasuresSequence", "PixelSpacing", 2)
    for value, name in (
        (position, "Image Position (Patient) (0020,0032)"),
        (orientation, "Image Orientation (Patient) (0020,0037)"),
        (spacing, "Pixel Spacing (0028,0030)"),
    ):
        if value is None:
            raise ConversionError(where, f"has no usable {name}, so nobody knows where it lies", SEND_AGAIN)
    assert position is not None and orientation is not None and spacing is not None  # noqa: S101 - the loop saw to it
    row, column = orientation[:3], orientation[3:]
    if abs(row @ column) > 0.01 or min(np.linalg.norm(row), np.linalg.norm(column)) < 0.9 or spacing.min() <= 0:
        raise ConversionError(where, f"has the orientation {orientation} and pixel spacing {spacing}", SEND_AGAIN)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    slope = _numbers(places, "PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = _numbers(places, "PixelValueTransformationSequence", "RescaleIntercept", 1)
    return Frame(
        where, position, row, column / np.linalg.norm(column), (float(spacing[0]), float(spacing[1])),
        (int(source.dataset.Rows), int(source.dataset.Columns)), b_value(places), is_isotropic(places), _kind(places),
        _first(_numbers(places, "MREchoSequence", "EffectiveEchoTime", 1), _numbers(places, "", "EchoTime", 1)),
        _first(
            _numbers(places, "FrameContentSequence", "TemporalPositionIndex", 1),
            _numbers(places, "", "TemporalPositionIdentifier", 1),
        ),
        _first(
            _numbers(places, "FrameContentSequence", "FrameAcquisitionNumber", 1),
            _numbers(places, "", "AcquisitionNumber", 1),
        ),
        lambda: _scaled(decode(), _first(slope, default=1.0), _first(intercept)),
    )


def _pixels(source: Source) -> NDArray[Any]:
    """The file's stored values, [frame,] row, column, in any transfer syntax that pydicom decodes (kept by pydicom)."""
    frames = int(source.dataset.get("NumberOfFrames", 1))
    try:
        array = source.dataset.pixel_array
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError, TypeError, KeyError) as error:
        raise ConversionError(source.path.name, f"has unreadable pixel data ({error})", SEND_AGAIN) from error
    return array[None] if PER_FRAME in source.dataset and frames == 1 and array.ndim == 2 else array


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> FloatArray:
    return (np.asarray(stored, dtype=np.float64) * slope + intercept).astype(np.float32)


def _kind(places: Sequence[Dataset]) -> tuple[str, ...]:
    """Frame Type or Image Type, with the complex component: what sort of image this is."""
    frame_type = _value(places, "MRImageFrameTypeSequence", "FrameType") or _value(places, "", "ImageType") or ()
    component = _value(places, "MRImageFrameTypeSequence", "ComplexImageComponent") or ""
    values = [frame_type] if isinstance(frame_type, str) else list(frame_type)
    return (*(str(value).upper() for value in values), str(component))


def _value(places: Sequence[Dataset], sequence: str, name: str) -> Any:
    """The attribute from the first place that has it, inside ``sequence`` or directly."""
    for place in places:
        holders = [*(place.get(sequence, None) or [] if sequence else []), place]
        for holder in holders:
            if (value := holder.get(name)) is not None and value != "":
                return value
    return None


def _numbers(places: Sequence[Dataset], sequence: str, name: str, count: int) -> NDArray[np.float64] | None:
    value = _value(places, sequence, name)
    if value is None:
        return None
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _first(*candidates: NDArray[np.float64] | None, default: float = 0.0) -> float:
    return next((float(value[0]) for value in candidates if value is not None), default)
