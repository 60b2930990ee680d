"""Synthetic DICOM series with known voxels and geometry, in every form that a scanner sends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    generate_uid,
)

from preprocessing.volume import Geometry, Volume

SERIES, REFERENCE, STUDY = "1.2.826.0.1.99.1", "1.2.826.0.1.99.2", "1.2.826.0.1.99.3"
SHARED_DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def shared(*parts: str) -> Path:
    """A file or folder of the shared data beside the checkout; a clear failure when it is missing."""
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: the tests need the folder shared/data beside the checkout")
    return path


def oblique(size: tuple[int, int, int] = (24, 20, 8), step: float = 2.5) -> Geometry:
    """A grid turned about all three axes, with different spacings."""
    a, b, c = 0.2, -0.15, 0.3
    turn_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    turn_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    turn_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    direction = tuple(float(value) for value in (turn_z @ turn_y @ turn_x).ravel())
    return Geometry(size, (-11.5, 20.25, -7.125), (1.0, 1.25, step), direction, REFERENCE)


def truth(geometry: Geometry | None = None, seed: int = 0) -> Volume:
    """Random whole numbers, no two slices alike."""
    grid = geometry or oblique()
    array = np.random.default_rng(seed).integers(1, 2000, grid.size[::-1])
    return Volume(array.astype(np.float32), grid, SERIES)


def _header(sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, REFERENCE
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "MR", "ACME", "test series"
    dataset.PatientID, dataset.PatientName, dataset.StudyID = "P1", "Test^Case", "1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    return dataset


def _positions(geometry: Geometry) -> list[list[float]]:
    return [(geometry.affine @ [0, 0, k, 1])[:3].tolist() for k in range(geometry.size[2])]


def _orientation(geometry: Geometry) -> list[float]:
    columns = np.reshape(geometry.direction, (3, 3))
    return [*columns[:, 0].tolist(), *columns[:, 1].tolist()]


def _stored(array: np.ndarray, slope: float, intercept: float) -> bytes:
    return np.round((array - intercept) / slope).astype("<u2").tobytes()


def classic(volume: Volume, slope: float = 1.0, intercept: float = 0.0, first: int = 1) -> list[Dataset]:
    """One single-frame image per slice; ``first`` is the first Instance Number."""
    images = []
    for k, position in enumerate(_positions(volume.geometry)):
        dataset = _header(MRImageStorage)
        dataset.InstanceNumber, dataset.AcquisitionNumber = first + k, 1
        dataset.ImagePositionPatient = [round(value, 6) for value in position]
        dataset.ImageOrientationPatient = [round(value, 8) for value in _orientation(volume.geometry)]
        dataset.PixelSpacing = [volume.geometry.spacing[1], volume.geometry.spacing[0]]
        dataset.SliceThickness = dataset.SpacingBetweenSlices = volume.geometry.spacing[2]
        dataset.EchoTime, dataset.RepetitionTime = 3.0, 7.0
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.Rows, dataset.Columns = volume.array.shape[1:]
        dataset.PixelData = _stored(volume.array[k], slope, intercept)
        images.append(dataset)
    return images


def _item(**attributes: Any) -> Sequence:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(volume: Volume, slope: float = 1.0, b_value: float | None = None, legacy: bool = False) -> Dataset:
    """One multi-frame image: orientation and spacing shared, positions per frame, frames in reverse order."""
    dataset = _header(LegacyConvertedEnhancedMRImageStorage if legacy else EnhancedMRImageStorage)
    geometry = volume.geometry
    shared_groups = Dataset()
    shared_groups.PlaneOrientationSequence = _item(ImageOrientationPatient=_orientation(geometry))
    shared_groups.PixelMeasuresSequence = _item(
        PixelSpacing=[geometry.spacing[1], geometry.spacing[0]], SliceThickness=geometry.spacing[2]
    )
    shared_groups.PixelValueTransformationSequence = _item(
        RescaleSlope=slope, RescaleIntercept=0, RescaleType="US"
    )
    if b_value is not None and not legacy:
        shared_groups.MRDiffusionSequence = _item(DiffusionBValue=b_value, DiffusionDirectionality="DIRECTIONAL")
    dataset.SharedFunctionalGroupsSequence = Sequence([shared_groups])
    frames = []
    for position in _positions(geometry)[::-1]:
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=position)
        if legacy:
            frame.UnassignedPerFrameConvertedAttributesSequence = _item(EchoTime=3.0)
            if b_value is not None:
                siemens_b(frame.UnassignedPerFrameConvertedAttributesSequence[0], b_value)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = volume.array.shape[1:]
    dataset.PixelData = _stored(volume.array[::-1], slope, 0)
    return dataset


def mosaic(volume: Volume, b_value: float | None = None) -> Dataset:
    """A Siemens mosaic: the slices as tiles, the position that of a first slice as large as the whole."""
    count, rows, columns = volume.array.shape
    across = math.ceil(math.sqrt(count))
    tiles = np.zeros((across * rows, across * columns))
    for k, image in enumerate(volume.array):
        top, left = k // across * rows, k % across * columns
        tiles[top : top + rows, left : left + columns] = image
    dataset = classic(Volume(volume.array[:1], _with_slices(volume.geometry, 1), SERIES))[0]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.Manufacturer = "SIEMENS"
    inwards = [-(across - 1) * columns / 2, -(across - 1) * rows / 2, 0, 1]
    dataset.ImagePositionPatient = (volume.geometry.affine @ inwards)[:3].tolist()
    dataset.Rows, dataset.Columns = tiles.shape
    dataset.PixelData = _stored(tiles, 1, 0)
    dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    if b_value is not None:
        siemens_b(dataset, b_value)
    return dataset


def _with_slices(geometry: Geometry, count: int) -> Geometry:
    return Geometry((*geometry.size[:2], count), geometry.origin, geometry.spacing, geometry.direction, REFERENCE)


def standard_b(dataset: Dataset, b: float) -> None:
    """(0018,9087) at the top level, as newer classic images have it."""
    dataset.DiffusionBValue = b


def sequence_b(dataset: Dataset, b: float) -> None:
    """(0018,9087) inside (0018,9117)."""
    dataset.MRDiffusionSequence = _item(DiffusionBValue=b)


def siemens_b(dataset: Dataset, b: float) -> None:
    """(0019,100C)."""
    dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", int(b))


def siemens_b_unknown(dataset: Dataset, b: float) -> None:
    """(0019,100C) after an archive that knows no private elements."""
    dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "UN", str(int(b)).encode())


def ge_b(dataset: Dataset, b: float) -> None:
    """(0043,1039), with the offset that GE adds."""
    dataset.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [int(1e9 + b), 8, 0, 0])


def philips_b(dataset: Dataset, b: float) -> None:
    """(2001,1003)."""
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", float(b))


def uih_b(dataset: Dataset, b: float) -> None:
    """(0065,1009)."""
    dataset.private_block(0x65, "Image Private Header", create=True).add_new(0x09, "FD", float(b))


B_VALUES: Mapping[str, Callable[[Dataset, float], None]] = {
    "standard": standard_b, "sequence": sequence_b, "Siemens": siemens_b, "Siemens as UN": siemens_b_unknown,
    "GE": ge_b, "Philips": philips_b, "UIH": uih_b,
}  # fmt: skip


def write(datasets: list[Dataset], folder: Path) -> list[Path]:
    """The datasets as files, in an order that says nothing about their positions."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(1).permutation(len(datasets))
    paths = []
    for name, index in enumerate(order):
        paths.append(folder / f"{name:04d}.dcm")
        datasets[index].save_as(paths[-1], enforce_file_format=True)
    return paths
