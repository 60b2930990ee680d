"""MR Image Storage: one slice per file (PS3.3 A.4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import MRImageStorage

from simulator.dicom import csa
from simulator.dicom.header import contrast_header, file_meta, shared_header
from simulator.dicom.identity import Examination, date_text, decimal, time_text
from simulator.dicom.private_tags import add_diffusion, add_slice_count
from simulator.dicom.sequence_tags import image_type, sequence_tags
from simulator.dicom.series import StoredSeries
from simulator.protocol import Kind, Weighting
from simulator.scanner import Vendor


def write_classic(examination: Examination, series: StoredSeries, folder: Path) -> list[Path]:
    """One file per slice, ``0001.dcm`` and so on: all slices of the first volume, then of the next."""
    ds = image_header(examination, series)
    meta = file_meta(MRImageStorage)
    paths = []
    for instance, (weighting, k) in enumerate(_slices(series), start=1):
        _place(ds, examination, series, instance, weighting, k)
        meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta = meta
        path = folder / f"{instance:04d}.dcm"
        dcmwrite(path, ds, enforce_file_format=True)
        paths.append(path)
    return paths


def _slices(series: StoredSeries) -> Iterator[tuple[Weighting, int]]:
    for weighting, volume in series.pixels.items():
        for k in range(volume.shape[0]):
            yield weighting, k


def image_header(examination: Examination, series: StoredSeries) -> Dataset:
    """Everything that all slices of a series share."""
    plan, scanner = series.plan, examination.scanner
    tags = sequence_tags(plan, scanner.vendor)
    ds = shared_header(examination, plan)
    ds.update(contrast_header(examination, plan))
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = list(image_type(plan, scanner.vendor))
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate = date_text(examination.at(plan.start))
    ds.ContentDate = date_text(examination.at(plan.start))
    ds.AcquisitionDuration = plan.duration * 60
    ds.ScanningSequence = list(tags.scanning_sequence)
    ds.SequenceVariant = list(tags.sequence_variant)
    ds.ScanOptions = list(tags.scan_options)
    ds.MRAcquisitionType = tags.acquisition_type
    ds.SequenceName = tags.sequence_name
    ds.AngioFlag = "N"
    ds.RepetitionTime = decimal(tags.repetition)
    ds.EchoTime = decimal(tags.echo)
    if tags.inversion is not None:
        ds.InversionTime = decimal(tags.inversion)
    ds.FlipAngle = decimal(tags.flip)
    ds.EchoTrainLength = tags.echo_train
    ds.EchoNumbers = 1
    ds.NumberOfAverages = decimal(1)
    ds.ImagingFrequency = decimal(round(42.577 * scanner.field_tesla, 4))
    ds.ImagedNucleus = "1H"
    ds.PixelBandwidth = decimal(tags.bandwidth)
    ds.PercentSampling = decimal(100)
    ds.PercentPhaseFieldOfView = decimal(100)
    ds.InPlanePhaseEncodingDirection = "ROW" if plan.is_t1 or plan.kind is Kind.FLAIR else "COL"
    columns, rows, _ = plan.grid.size
    ds.AcquisitionMatrix = [0, columns, rows, 0] if ds.InPlanePhaseEncodingDirection == "ROW" else [columns, 0, 0, rows]
    ds.ImagesInAcquisition = series.instances
    ds.SliceThickness = decimal(plan.thickness)
    # Siemens leaves the distance out of 3D acquisitions, where it is the thickness.
    if scanner.vendor is not Vendor.SIEMENS or not plan.is_t1:
        ds.SpacingBetweenSlices = decimal(round(plan.grid.spacing[2], 6))
    ds.PixelSpacing = [decimal(round(plan.grid.spacing[1], 6)), decimal(round(plan.grid.spacing[0], 6))]
    directions = plan.grid.directions
    ds.ImageOrientationPatient = [decimal(v) for v in (*directions[:, 0], *directions[:, 1])]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, series.bits, series.bits - 1, 0
    ds.WindowCenter, ds.WindowWidth = decimal(series.window[0]), decimal(series.window[1])
    if series.slope != 1.0:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = decimal(0), decimal(series.slope), "normalized"
    add_slice_count(ds, scanner.vendor, plan)
    if scanner.vendor is Vendor.SIEMENS:
        csa.add_protocol(ds, plan.grid, three_dimensional=tags.acquisition_type == "3D")
    return ds


def _place(
    ds: Dataset, examination: Examination, series: StoredSeries, instance: int, weighting: Weighting, k: int
) -> None:
    """What differs from slice to slice."""
    plan = series.plan
    position = plan.grid.point((0, 0, k))
    normal = plan.grid.directions[:, 2]
    ds.SOPInstanceUID = examination.instance_uid(plan.number, instance)
    ds.InstanceNumber = instance
    ds.ImagePositionPatient = [decimal(round(float(v), 6)) for v in position]
    ds.SliceLocation = decimal(round(float(position @ normal), 4))
    moment = examination.at(plan.start)
    if not plan.is_t1:
        # Slices of a 2D sequence are excited one after another.
        moment += timedelta(milliseconds=round(plan.duration * 60000 * (instance - 1) / series.instances))
    ds.AcquisitionTime = time_text(moment)
    ds.ContentTime = time_text(examination.at(plan.start + plan.duration))
    if plan.kind is Kind.DWI:
        add_diffusion(ds, examination.scanner.vendor, weighting, plan.grid)
    ds.PixelData = series.pixels[weighting][k].astype("<u2").tobytes()
