"""Small DICOM sources, written with pydicom alone, for the tests of derivation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from preprocessing.volume import Geometry, Volume

NAME = "Müller^Jörg"
STUDY = generate_uid(entropy_srcs=["study"])
FRAME_OF_REFERENCE = generate_uid(entropy_srcs=["frame of reference"])


def oblique_geometry(size: tuple[int, int, int] = (56, 64, 10)) -> Geometry:
    """Axial, tilted by 12°, thick slices; k along the slice normal."""
    angle = np.deg2rad(12.0)
    row, column = np.array([1.0, 0.0, 0.0]), np.array([0.0, np.cos(angle), np.sin(angle)])
    direction = np.stack([row, column, np.cross(row, column)], axis=1)
    return Geometry(
        size, (-100.5, -120.25, -30.125), (0.9375, 0.9375, 3.3), tuple(float(x) for x in direction.ravel()),
        str(FRAME_OF_REFERENCE),
    )


def virtual_volume(geometry: Geometry, highest: float = 1413.7) -> Volume:
    """An ellipsoid of brain with a bright spot, zero outside, noisy so that every voxel tells where it came from."""
    i, j, k = geometry.size
    z, y, x = np.meshgrid(np.linspace(-1, 1, k), np.linspace(-1, 1, j), np.linspace(-1, 1, i), indexing="ij")
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (k, j, i))
    brain = (x**2 + y**2 + z**2 < 0.9) * noise * (0.45 + 0.15 * np.cos(9 * x))
    brain[(x - 0.3) ** 2 + (y + 0.2) ** 2 + z**2 < 0.03] = 1.0
    return Volume((brain / brain.max() * highest).astype(np.float32), geometry, "synthesis")


def write_classic(folder: Path, geometry: Geometry, name: str = "classic", **overrides: object) -> list[Path]:
    """One MR Image per slice (PS3.3 A.4), written from the last to the first; ``name`` decides the UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in reversed(range(geometry.size[2])):
        dataset = _study(MRImageStorage, f"{name} {k}")
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.ImagePositionPatient = _texts(_position(geometry, k))
        dataset.ImageOrientationPatient = _texts(_orientation(geometry))
        dataset.PixelSpacing = _texts([geometry.spacing[1], geometry.spacing[0]])
        dataset.SliceThickness = "3"
        dataset.SpacingBetweenSlices = "3.3"
        dataset.InstanceNumber = k + 1
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = ["GR", "IR"], "SP", None
        dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = "2300", "2.98", "900"
        dataset.FlipAngle, dataset.EchoTrainLength, dataset.NumberOfAverages = "9", "1", "1"
        dataset.MRAcquisitionType, dataset.MagneticFieldStrength = "3D", "3"
        dataset.ContrastBolusAgent, dataset.ContrastBolusVolume = "Dotarem 0.025 mmol/kg", "3.5"
        dataset.AcquisitionDate, dataset.AcquisitionTime = "20260102", "101500"
        _pixels(dataset, np.full(geometry.size[1::-1], k, np.uint16))
        for keyword, value in overrides.items():
            setattr(dataset, keyword, value)
        paths.append(_save(dataset, folder / f"{k:03d}.dcm"))
    return paths


def write_enhanced(folder: Path, geometry: Geometry) -> list[Path]:
    """One Enhanced MR instance whose frames run against the slice normal, with a scanner's non-standard terms."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _study(EnhancedMRImageStorage, "enhanced")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.AcquisitionDateTime = "20260102101500"
    dataset.MagneticFieldStrength = 3.0
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(
        PixelSpacing=_texts([geometry.spacing[1], geometry.spacing[0]]), SliceThickness="3")]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_texts(_orientation(geometry)))]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime="2300", FlipAngle="9", EchoTrainLength="224")]
    shared.MRModifierSequence = [_item(
        InversionRecovery="YES", InversionTimes=900.0, ParallelAcquisitionTechnique="GRAPPA")]
    shared.MREchoSequence = [_item(EffectiveEchoTime=2.98)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=_texts(_position(geometry, k)))])
        for k in reversed(range(geometry.size[2]))
    ]
    dataset.NumberOfFrames = geometry.size[2]
    _pixels(dataset, np.zeros(geometry.size[::-1], np.uint16))
    return [_save(dataset, folder / "enhanced.dcm")]


def _study(sop_class: str, name: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(entropy_srcs=[name])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, generate_uid(entropy_srcs=[name.split()[0]])
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = FRAME_OF_REFERENCE, None
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = NAME, "P1", "19500101", "M"
    dataset.PatientWeight, dataset.PatientPosition = "71.5", "HFS"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20260102", "100000", "1", "A77"
    dataset.ReferringPhysicianName, dataset.StudyDescription = "Lefèvre^Zoé", "Schädel MRT"
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = "MR", "SIEMENS", "Skyra"
    dataset.SeriesNumber, dataset.SeriesDescription = 7, "t1_mprage_KM_low"
    return dataset


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _position(geometry: Geometry, k: int) -> list[float]:
    return [float(value) for value in (geometry.affine @ [0, 0, k, 1])[:3]]


def _orientation(geometry: Geometry) -> list[float]:
    matrix = np.reshape(geometry.direction, (3, 3))
    return [*matrix[:, 0], *matrix[:, 1]]


def _texts(values: Sequence[float]) -> list[str]:
    return [f"{value:.10g}" for value in values]


def _pixels(dataset: Dataset, array: NDArray[np.uint16]) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = array.tobytes()


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path
