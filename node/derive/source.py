"""The native series a virtual series stands for: its frames in space, its header, its instances to refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from preprocessing.volume import FloatArray, Volume

_LOSSY_SYNTAXES = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}
_TOLERANCE_VOXELS = 0.2
"""How far a frame may lie from its voxel plane: NIfTI's single precision and scanners' rounding stay far below."""


@dataclass(frozen=True)
class Instance:
    """Where a SOP instance is found in the hierarchy (PS3.3 C.17.2.1)."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class SourceFrame:
    """One plane of the series: ``position`` is Image Position (Patient) in LPS mm; ``number`` None if classic."""

    instance: Instance
    number: int | None
    position: tuple[float, float, float]


@dataclass(frozen=True)
class SourceSeries:
    """The frames sorted along the slice normal, and what they share. ``pixel_spacing``: between rows, columns, mm."""

    header: Dataset
    frames: tuple[SourceFrame, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, float]
    slice_thickness: float
    lossy: bool

    @property
    def affine(self) -> NDArray[np.float64]:
        """The 4 × 4 matrix from (column, row, frame, 1) to LPS mm (PS3.3 C.7.6.2.1.1), frames evenly spread."""
        matrix = np.eye(4)
        matrix[:3, 0] = np.asarray(self.orientation[:3]) * self.pixel_spacing[1]
        matrix[:3, 1] = np.asarray(self.orientation[3:]) * self.pixel_spacing[0]
        matrix[:3, 2] = self.step
        matrix[:3, 3] = self.frames[0].position
        return matrix

    @property
    def step(self) -> NDArray[np.float64]:
        """From one frame to the next, LPS mm."""
        first, last = np.asarray(self.frames[0].position), np.asarray(self.frames[-1].position)
        if len(self.frames) == 1:
            return np.cross(self.orientation[:3], self.orientation[3:]) * self.slice_thickness
        return np.asarray((last - first) / (len(self.frames) - 1))


def read_source(paths: Sequence[Path]) -> SourceSeries:
    """Read the headers of one series, classic slices or enhanced multi-frame, in any order of files.

    Raises ``ValueError`` if there are no files, or they are of several series, or do not make one stack of planes.
    """
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    series = {dataset.SeriesInstanceUID for dataset in datasets}
    if len(series) != 1:
        raise ValueError(f"the sources must be the files of one series, got {len(series)} series in {len(paths)} files")
    planes = [plane for dataset in datasets for plane in _planes(dataset)]
    orientation = _shared([plane[1] for plane in planes], "Image Orientation (Patient)")
    spacing = _shared([plane[2] for plane in planes], "Pixel Spacing")
    normal = np.cross(orientation[:3], orientation[3:])
    planes.sort(key=lambda plane: float(normal @ plane[0].position))
    heights = np.array([normal @ plane[0].position for plane in planes])
    if len(planes) > 1 and np.diff(heights).min() < 1e-3:
        raise ValueError("two frames of the series lie in the same plane: it is not one volume")
    first = planes[0][0].instance.sop_instance_uid
    header = next(dataset for dataset in datasets if first == dataset.SOPInstanceUID)
    thickness = planes[0][3] or (float(np.diff(heights).mean()) if len(planes) > 1 else 1.0)
    return SourceSeries(
        header, tuple(plane[0] for plane in planes), orientation, (spacing[0], spacing[1]), thickness,
        any(_is_lossy(dataset) for dataset in datasets),
    )


def read_instances(paths: Sequence[Path]) -> tuple[Instance, ...]:
    """The identities of the files, for reference."""
    tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"]
    return tuple(_instance(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)) for path in paths)


def in_source_order(virtual: Volume, source: SourceSeries) -> FloatArray:
    """The virtual array as (frames, rows, columns) of the source: converters may have flipped or permuted its axes.

    Raises ``ValueError`` if the virtual grid is not the source's grid.
    """
    rows, columns = int(source.header.Rows), int(source.header.Columns)
    to_virtual = np.linalg.inv(virtual.geometry.affine) @ source.affine
    signs = np.rint(to_virtual[:3, :3])
    axes = [int(axis) for axis in np.abs(signs).argmax(axis=0)]  # the virtual axis of each of column, row, frame
    if not np.array_equal(np.abs(signs).sum(axis=0), np.ones(3)) or sorted(axes) != [0, 1, 2]:
        raise ValueError("the virtual volume's axes are not those of the low-dose series")
    array = virtual.array.transpose([2 - axes[2], 2 - axes[1], 2 - axes[0]])
    flipped = [bool(signs[axes[axis], axis] < 0) for axis in (2, 1, 0)]
    array = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in flipped)]
    if array.shape != (len(source.frames), rows, columns):
        raise ValueError(
            f"the virtual volume has {array.shape} (frames, rows, columns), "
            f"the low-dose series {(len(source.frames), rows, columns)}"
        )
    _check_corners(to_virtual, signs, virtual, source)
    return np.ascontiguousarray(array)


def _check_corners(
    to_virtual: NDArray[np.float64], signs: NDArray[np.float64], virtual: Volume, source: SourceSeries
) -> None:
    """Every frame's first and last pixel must fall on the voxel it is written from."""
    last = np.array([int(source.header.Columns) - 1, int(source.header.Rows) - 1])
    size = np.asarray(virtual.geometry.size)
    offset = np.where(signs.sum(axis=1) < 0, size - 1, 0)
    into = np.linalg.inv(virtual.geometry.affine)
    in_plane = source.affine[:3, :2] @ last
    for index, frame in enumerate(source.frames):
        for pixel, point in (((0, 0), frame.position), (tuple(last), np.asarray(frame.position) + in_plane)):
            found = into @ (*point, 1.0)
            expected = signs @ (*pixel, index) + offset
            if np.abs(found[:3] - expected).max() > _TOLERANCE_VOXELS:
                raise ValueError(f"frame {index + 1} of the low-dose series does not lie on the virtual volume's grid")


def _planes(dataset: Dataset) -> list[tuple[SourceFrame, tuple[float, ...], tuple[float, ...], float | None]]:
    """Frame, orientation, pixel spacing and thickness of each frame of the instance."""
    instance = _instance(dataset)
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        if "MOSAIC" in dataset.get("ImageType", []):
            raise ValueError("the low-dose series is a mosaic: its planes are not images of their own")
        return [_plane(instance, None, dataset, dataset, dataset)]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    return [
        _plane(
            instance, number,
            _group("PlanePositionSequence", own, shared), _group("PlaneOrientationSequence", own, shared),
            _group("PixelMeasuresSequence", own, shared),
        )
        for number, own in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1)
    ]


def _plane(
    instance: Instance, number: int | None, position: Dataset, orientation: Dataset, measures: Dataset
) -> tuple[SourceFrame, tuple[float, ...], tuple[float, ...], float | None]:
    for name, values, count in (
        ("Image Position (Patient)", position.get("ImagePositionPatient"), 3),
        ("Image Orientation (Patient)", orientation.get("ImageOrientationPatient"), 6),
        ("Pixel Spacing", measures.get("PixelSpacing"), 2),
    ):
        if values is None or len(values) != count:
            raise ValueError(f"an instance of the low-dose series has no valid {name}")
    x, y, z = (float(value) for value in position.ImagePositionPatient)
    thickness = measures.get("SliceThickness")
    return (
        SourceFrame(instance, number, (x, y, z)),
        tuple(float(value) for value in orientation.ImageOrientationPatient),
        tuple(float(value) for value in measures.PixelSpacing),
        float(thickness) if thickness else None,
    )


def _group(keyword: str, own: Dataset, shared: Dataset) -> Dataset:
    for groups in (own, shared):
        if groups.get(keyword):
            item: Dataset = groups[keyword].value[0]
            return item
    return Dataset()


def _shared(values: list[tuple[float, ...]], name: str) -> tuple[float, ...]:
    if np.ptp(np.asarray(values), axis=0).max() > 1e-3:
        raise ValueError(f"{name} differs between the frames of the low-dose series")
    return values[0]


def _instance(dataset: Dataset) -> Instance:
    return Instance(
        str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
    )


def _is_lossy(dataset: Dataset) -> bool:
    """Lossy once, lossy for ever (PS3.3 C.7.6.1.1.5); a JPEG 2000 stream may be lossless if it says so."""
    if dataset.get("LossyImageCompression") == "01":
        return True
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    said_lossless = dataset.get("LossyImageCompression") == "00"
    return syntax in _LOSSY_SYNTAXES and not said_lossless
