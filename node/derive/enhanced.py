"""The virtual series as one Enhanced MR Image instance (PS3.3 A.36.2)."""

from __future__ import annotations

from collections.abc import Iterable

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage

from node.derive.acquisition import acquisition_attributes, acquisition_groups, contrast_agents, contrast_usage
from node.derive.frames import frame_groups, set_dimensions, set_pixels, set_value_transformation, shared_geometry
from node.derive.header import start_object
from node.derive.pixels import quantise, window_for
from node.derive.provenance import Provenance
from node.derive.source import Instance, SourceSeries
from preprocessing.volume import FloatArray

KIND = "enhanced_mr"
SOP_CLASS = EnhancedMRImageStorage
IMAGE_TYPE = ["DERIVED", "PRIMARY", "T1", "VIRTUAL"]
"""Value 4 says how the contrast came about (PS3.3 C.8.16.1.4); extensible, no term for synthesis."""

SERIES_NUMBER_OFFSET = 1000


def enhanced_mr(
    array: FloatArray, source: SourceSeries, others: Iterable[Instance], provenance: Provenance
) -> Dataset:
    """``array`` is (frames, rows, columns) in the order of ``source.frames`` and in that series' signal units."""
    dataset = start_object(source, others, provenance, KIND, SOP_CLASS)
    dataset.update(acquisition_attributes(source))
    dataset.SeriesNumber = int(source.header.get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET
    dataset.ImageType = IMAGE_TYPE
    _set_description(dataset)
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = dataset.get("LossyImageCompression", "00")
    dataset.AcquisitionContextSequence = []
    agents = contrast_agents(source)
    if agents:
        dataset.ContrastBolusAgentSequence = agents
    pixels, window = quantise(array), window_for(array)
    dataset.WindowCenter, dataset.WindowWidth = window.center, window.width  # for viewers that do not look into groups
    groups = shared_geometry(source)
    groups.update(acquisition_groups(source))
    set_value_transformation(groups, pixels, window)
    groups.FrameAnatomySequence = [_anatomy()]
    groups.MRImageFrameTypeSequence = [_frame_type()]
    if agents:
        groups.ContrastBolusUsageSequence = contrast_usage(agents)
    dataset.SharedFunctionalGroupsSequence = [groups]
    dataset.PerFrameFunctionalGroupsSequence = frame_groups(source, provenance)
    set_dimensions(dataset, provenance, KIND)
    set_pixels(dataset, pixels)
    return dataset


def _set_description(item: Dataset) -> None:
    """Common CT/MR and MR Image Description macros (PS3.3 C.8.16.2, C.8.13.3.1)."""
    item.PixelPresentation = "MONOCHROME"
    item.VolumetricProperties = "VOLUME"
    item.VolumeBasedCalculationTechnique = "NONE"
    item.ComplexImageComponent = "MAGNITUDE"
    item.AcquisitionContrast = "T1"


def _frame_type() -> Dataset:
    item = Dataset()
    item.FrameType = IMAGE_TYPE
    _set_description(item)
    return item


def _anatomy() -> Dataset:
    item = Dataset()
    item.AnatomicRegionSequence = [CodedConcept.from_code(codes.SCT.Brain)]
    item.FrameLaterality = "B"
    return item
