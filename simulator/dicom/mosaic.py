"""Siemens mosaics: one file per diffusion volume, its slices as tiles of one large image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.filewriter import dcmwrite
from pydicom.uid import MRImageStorage

from simulator.dicom import csa
from simulator.dicom.classic import image_header
from simulator.dicom.header import file_meta
from simulator.dicom.identity import Examination, decimal, time_text
from simulator.dicom.private_tags import add_diffusion
from simulator.dicom.series import StoredSeries


def write_mosaic(examination: Examination, series: StoredSeries, folder: Path) -> list[Path]:
    """``0001.dcm`` for the first volume and so on."""
    plan = series.plan
    columns, rows, slices = plan.grid.size
    across = math.ceil(math.sqrt(slices))
    ds = image_header(examination, series)
    ds.ImageType = [*ds.ImageType, "MOSAIC"]
    ds.Rows, ds.Columns = rows * across, columns * across
    ds.ImagesInAcquisition = len(series.pixels)
    # Siemens places the mosaic as if it were one slice as large as all tiles, centred on the first slice.
    corner = plan.grid.point((-(across - 1) * columns / 2, -(across - 1) * rows / 2, 0))
    ds.ImagePositionPatient = [decimal(round(float(v), 6)) for v in corner]
    ds.SliceLocation = decimal(round(float(plan.grid.origin @ plan.grid.directions[:, 2]), 4))
    paths = []
    for number, (weighting, volume) in enumerate(series.pixels.items(), start=1):
        ds.SOPInstanceUID = examination.instance_uid(plan.number, number)
        ds.InstanceNumber = ds.AcquisitionNumber = number
        ds.AcquisitionTime = time_text(examination.at(plan.start + plan.duration * (number - 1) / len(series.pixels)))
        ds.ContentTime = time_text(examination.at(plan.start + plan.duration))
        add_diffusion(ds, examination.scanner.vendor, weighting, plan.grid)
        measurement = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        measurement.add_new(0x0A, "US", slices)
        csa.add_image(ds, plan.grid, weighting)
        ds.PixelData = tiled(volume, across).astype("<u2").tobytes()
        ds.file_meta = file_meta(MRImageStorage)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        paths.append(folder / f"{number:04d}.dcm")
        dcmwrite(paths[-1], ds, enforce_file_format=True)
    return paths


def tiled(volume: NDArray[np.uint16], across: int) -> NDArray[np.uint16]:
    """Slices [k, j, i] as tiles from left to right and top to bottom; the rest stays black."""
    slices, rows, columns = volume.shape
    sheet = np.zeros((across * rows, across * columns), dtype=np.uint16)
    for k in range(slices):
        top, left = k // across * rows, k % across * columns
        sheet[top : top + rows, left : left + columns] = volume[k]
    return sheet
