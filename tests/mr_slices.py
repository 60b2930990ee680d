"""Small classic MR Image instances, enough for the node to receive and to judge."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

STUDY = generate_uid(entropy_srcs=["a study"])


def mr_slice(series: str, number: int, *, count: int = 24, study: str = STUDY, **elements: object) -> Dataset:
    """Slice ``number`` (1 … ``count``) of an axial T1-weighted gradient echo; UIDs follow from the names given."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[study, series])
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[study, series, str(number)])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[study, "frame"])
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "P1"
    dataset.StudyDate, dataset.AccessionNumber, dataset.Modality = "20260102", "A1", "MR"
    dataset.Manufacturer, dataset.SeriesDescription = "SIEMENS", series
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.ScanningSequence, dataset.SequenceVariant = ["GR", "IR"], ["SK", "SP", "MP"]
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime, dataset.FlipAngle = 2300, 2.98, 900, 9
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20260102", "100000"
    dataset.InstanceNumber, dataset.ImagesInAcquisition = number, count
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-16, -16, 5.0 * number]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 5
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.full((32, 32), number, np.uint16).tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
