"""Functional groups that both kinds of object share: where each frame lies and which source frame it stands for."""

from __future__ import annotations

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from node.derive.header import derivation_codes, describe, reference
from node.derive.pixels import StoredPixels, Window
from node.derive.provenance import Provenance, uid_for
from node.derive.source import SourceFrame, SourceSeries


def set_pixels(dataset: Dataset, pixels: StoredPixels) -> None:
    """Image Pixel module (PS3.3 C.7.6.3): unsigned 16 bits, (frames, rows, columns)."""
    frames, rows, columns = pixels.stored.shape
    dataset.NumberOfFrames = frames
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    data = pixels.stored.astype("<u2").tobytes()
    dataset.PixelData = data
    dataset["PixelData"].VR = "OW"


def shared_geometry(source: SourceSeries) -> Dataset:
    """Pixel Measures and Plane Orientation (PS3.3 C.7.6.16.2.1, .4), digit by digit those of the source."""
    groups = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [_decimal(value) for value in source.pixel_spacing]
    measures.SliceThickness = _decimal(source.slice_thickness)
    if len(source.frames) > 1:
        measures.SpacingBetweenSlices = _decimal(float(np.linalg.norm(source.step)))
    groups.PixelMeasuresSequence = [measures]
    plane = Dataset()
    plane.ImageOrientationPatient = [_decimal(value) for value in source.orientation]
    groups.PlaneOrientationSequence = [plane]
    return groups


def set_value_transformation(groups: Dataset, pixels: StoredPixels, window: Window) -> None:
    """Pixel Value Transformation and Frame VOI LUT (PS3.3 C.7.6.16.2.9, .10)."""
    transformation = Dataset()
    transformation.RescaleIntercept = "0"
    transformation.RescaleSlope = pixels.slope
    transformation.RescaleType = "US"  # unspecified, the only term for MR signal
    groups.PixelValueTransformationSequence = [transformation]
    voi = Dataset()
    voi.WindowCenter = window.center
    voi.WindowWidth = window.width
    voi.WindowCenterWidthExplanation = "VIRTUAL full-dose"
    groups.FrameVOILUTSequence = [voi]


def frame_groups(source: SourceSeries, provenance: Provenance) -> list[Dataset]:
    """For each frame its content, position and derivation (PS3.3 C.7.6.16.2.2, .3, .6)."""
    return [_frame(index, frame, provenance) for index, frame in enumerate(source.frames, start=1)]


def _frame(index: int, frame: SourceFrame, provenance: Provenance) -> Dataset:
    groups = Dataset()
    content = Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = index
    content.DimensionIndexValues = [1, index]
    content.FrameComments = "VIRTUAL, not acquired"
    groups.FrameContentSequence = [content]
    position = Dataset()
    position.ImagePositionPatient = [_decimal(value) for value in frame.position]
    groups.PlanePositionSequence = [position]
    derivation = Dataset()
    derivation.DerivationDescription = describe(provenance)
    derivation.DerivationCodeSequence = derivation_codes()
    image = reference(frame.instance)
    if frame.number is not None:
        image.ReferencedFrameNumber = frame.number
    image.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    image.SpatialLocationsPreserved = "YES"
    derivation.SourceImageSequence = [image]
    groups.DerivationImageSequence = [derivation]
    return groups


def set_dimensions(dataset: Dataset, provenance: Provenance, kind: str) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): one stack, its positions in order."""
    uid = uid_for(str(dataset.StudyInstanceUID), provenance, kind, "dimensions")
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionOrganizationType = "3D"
    dataset.DimensionIndexSequence = [
        _dimension(uid, keyword, label) for keyword, label in (("StackID", "Stack"), ("InStackPositionNumber", "Slice"))
    ]


def _dimension(uid: str, keyword: str, label: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = uid
    item.DimensionIndexPointer = tag_for_keyword(keyword)
    item.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    item.DimensionDescriptionLabel = label
    return item


def _decimal(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)
