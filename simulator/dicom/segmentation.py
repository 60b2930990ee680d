"""The enhancing lesion as DICOM Segmentation (PS3.3 A.51), on the frames of the full-dose series."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from simulator.dicom.identity import (
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_VERSION,
    Examination,
    date_text,
    time_text,
    uid,
)
from simulator.protocol import SeriesPlan

NUMBER = 90  # series number, after all that the scanner makes


def write_segmentation(
    examination: Examination, plan: SeriesPlan, source: Path, mask: NDArray[np.bool_], folder: Path
) -> Path:
    """Write ``mask`` [k, j, i], as drawn on the series in the folder ``source``; the file's path."""
    images = [_source(path) for path in sorted(source.glob("*.dcm"))]
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="enhancing lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask.astype(np.uint8)[..., None],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=examination.series_uid(NUMBER),
        series_number=NUMBER,
        sop_instance_uid=examination.instance_uid(NUMBER, 1),
        instance_number=1,
        manufacturer="Quarterdose simulator",
        manufacturer_model_name="ground truth",
        software_versions="1",
        device_serial_number="0",
        content_description="Ground truth of a simulated patient",
        series_description="Enhancing lesion (ground truth)",
        omit_empty_frames=bool(mask.any()),
        dimension_organization_type=None,
    )
    # The library dates the object now and names itself; the same seed must give the same bytes.
    moment = examination.at(plan.start + plan.duration + 10)
    for keyword in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        setattr(segmentation, keyword, date_text(moment))
    for keyword in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        setattr(segmentation, keyword, time_text(moment))
    for contributor in segmentation.get("ContributingEquipmentSequence", []):
        contributor.ContributionDateTime = date_text(moment) + time_text(moment)
    organization = uid(examination.key, "dimensions", NUMBER)
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    segmentation.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS
    segmentation.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    path = folder / "0001.dcm"
    segmentation.save_as(path, enforce_file_format=True)
    return path


def _source(path: Path) -> Dataset:
    """A header as highdicom wants it: pixel measures and orientation shared; XA30 repeats them in every frame."""
    header = dcmread(path, stop_before_pixels=True)
    for shared in header.get("SharedFunctionalGroupsSequence", ()):
        first = header.PerFrameFunctionalGroupsSequence[0]
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if keyword not in shared:
                shared[keyword] = first[keyword]
    return header
