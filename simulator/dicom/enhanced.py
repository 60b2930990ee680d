"""Enhanced MR Image Storage: a whole series in one multi-frame file (PS3.3 A.36)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import EnhancedMRImageStorage

from simulator.dicom.enhanced_groups import (
    code,
    describe,
    diffusion,
    image_type,
    pulse_sequence,
    shared_groups,
    value_transformation,
)
from simulator.dicom.header import PRODUCTS, administered_volume, file_meta, shared_header
from simulator.dicom.identity import Examination, date_text, decimal, time_text, uid
from simulator.dicom.private_tags import add_counters, add_ge_parameters, add_slice_count
from simulator.dicom.sequence_tags import sequence_tags
from simulator.dicom.series import StoredSeries
from simulator.protocol import Kind, SeriesPlan, Weighting
from simulator.scanner import Vendor

# XA30 states these in every frame, though they are the same in all; dcm2niix joins the volumes by where they stand.
REPEATED_BY_SIEMENS = (
    "MREchoSequence",
    "MRAveragesSequence",
    "MRImageFrameTypeSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
)


def write_enhanced(examination: Examination, series: StoredSeries, folder: Path) -> list[Path]:
    """``0001.dcm`` with every slice as a frame; Philips and GE add all volumes to it, Siemens writes a file for each.

    Siemens' follow files of XA30, Philips' what dcm2niix's notes tell of theirs. Of GE's enhanced objects none was at
    hand: its frames hold what the standard asks for and its classic private elements [A].
    """
    if examination.scanner.vendor is not Vendor.SIEMENS:
        return [_write_file(examination, series, 1, folder)]
    parts = [replace(series, pixels={weighting: volume}) for weighting, volume in series.pixels.items()]
    return [_write_file(examination, part, number, folder) for number, part in enumerate(parts, start=1)]


def _write_file(examination: Examination, series: StoredSeries, instance: int, folder: Path) -> Path:
    plan, scanner = series.plan, examination.scanner
    tags = sequence_tags(plan, scanner.vendor)
    began = date_text(examination.at(plan.start)) + time_text(examination.at(plan.start))
    ds = shared_header(examination, plan)
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = examination.instance_uid(plan.number, instance)
    ds.InstanceNumber = instance
    ds.ImageType = image_type(plan, scanner.vendor)
    describe(ds, plan.kind)
    ds.ContentDate = date_text(examination.at(plan.start))
    ds.ContentTime = time_text(examination.at(plan.start + plan.duration))
    ds.AcquisitionNumber = instance
    ds.AcquisitionDateTime = began
    ds.AcquisitionDuration = plan.duration * 60
    ds.ResonantNucleus = "1H"
    ds.KSpaceFiltering = "NONE"
    ds.ApplicableSafetyStandardAgency = "IEC"
    ds.ContentQualification = "RESEARCH"  # nobody may take a simulated patient for a clinical product
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PresentationLUTShape = "IDENTITY"
    ds.AcquisitionContextSequence = []
    ds.update(pulse_sequence(series, scanner, tags))
    groups = shared_groups(series, scanner, tags, began)
    if plan.injections:
        ds.ContrastBolusAgentSequence, groups.ContrastBolusUsageSequence = _contrast(examination, series)
    frames = _frames(examination, series, began, first_volume=instance)
    if scanner.vendor is Vendor.SIEMENS:
        for name in REPEATED_BY_SIEMENS:
            repeated = groups.pop(name)
            for frame in frames:
                frame[name] = repeated
    ds.SharedFunctionalGroupsSequence = [groups]
    ds.PerFrameFunctionalGroupsSequence = frames
    _dimensions(ds, examination, series)
    add_slice_count(ds, scanner.vendor, plan)
    if scanner.vendor is Vendor.SIEMENS:
        ds.NumberOfTemporalPositions = len(plan.weightings)
    columns, rows, _ = plan.grid.size
    ds.NumberOfFrames = series.instances
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, series.bits, series.bits - 1, 0
    ds.PixelData = np.concatenate(list(series.pixels.values())).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = file_meta(EnhancedMRImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path = folder / f"{instance:04d}.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def _frames(examination: Examination, series: StoredSeries, began: str, first_volume: int) -> list[Dataset]:
    """``first_volume`` is the number, among the series' volumes, of the first one in this file."""
    plan, vendor = series.plan, examination.scanner.vendor
    indices = _indices(plan, vendor)
    items = []
    for volume, weighting in enumerate(series.pixels, start=first_volume):
        for k in range(plan.grid.size[2]):
            groups = Dataset()
            content = Dataset()
            content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = began
            content.FrameAcquisitionDuration = plan.duration * 60000
            content.StackID, content.InStackPositionNumber = "1", k + 1
            content.DimensionIndexValues = [index(plan, weighting, k, volume) for _, _, index in indices]
            content.TemporalPositionIndex = volume  # what readers that know no diffusion tell the volumes by
            groups.FrameContentSequence = [content]
            position = Dataset()
            position.ImagePositionPatient = [decimal(round(float(v), 6)) for v in plan.grid.point((0, 0, k))]
            groups.PlanePositionSequence = [position]
            if plan.kind is Kind.DWI:
                groups.MRDiffusionSequence = [diffusion(weighting, vendor)]
            if vendor is Vendor.PHILIPS:
                groups.PixelValueTransformationSequence = [value_transformation(series)]
            elif vendor is Vendor.SIEMENS:
                add_counters(groups, plan, k, volume)
            elif plan.kind is Kind.DWI:
                add_ge_parameters(groups, weighting, plan.grid)
            items.append(groups)
    return items


Index = Callable[[SeriesPlan, Weighting, int, int], int]


def _indices(plan: SeriesPlan, vendor: Vendor) -> list[tuple[str, str, Index]]:
    """The dimensions of the frames: the attribute, its functional group, and a frame's index along it."""
    content = "FrameContentSequence"
    indices: list[tuple[str, str, Index]] = [
        ("StackID", content, lambda *_: 1),
        ("InStackPositionNumber", content, lambda _plan, _weighting, k, _volume: k + 1),
    ]
    if vendor is Vendor.SIEMENS:
        return [*indices, ("TemporalPositionIndex", content, lambda _plan, _weighting, _k, volume: volume)]
    if plan.kind is Kind.DWI:
        indices.append(("DiffusionBValue", "MRDiffusionSequence", _b_index))
    if any(weighting.direction for weighting in plan.weightings):
        indices.append(("DiffusionGradientOrientation", "MRDiffusionSequence", _direction_index))
    return indices


def _b_index(plan: SeriesPlan, weighting: Weighting, _k: int, _volume: int) -> int:
    return sorted({one.b for one in plan.weightings}).index(weighting.b) + 1


def _direction_index(plan: SeriesPlan, weighting: Weighting, _k: int, _volume: int) -> int:
    directions = list(dict.fromkeys(one.direction for one in plan.weightings if one.direction))
    return directions.index(weighting.direction) + 1 if weighting.direction else 1


def _dimensions(ds: Dataset, examination: Examination, series: StoredSeries) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): stack, slice and what distinguishes the volumes."""
    organization = uid(examination.key, "dimensions", series.plan.number)
    item = Dataset()
    item.DimensionOrganizationUID = organization
    ds.DimensionOrganizationSequence = [item]
    ds.DimensionIndexSequence = []
    for keyword, group, _ in _indices(series.plan, examination.scanner.vendor):
        index = Dataset()
        index.DimensionOrganizationUID = organization
        index.DimensionIndexPointer = tag_for_keyword(keyword)
        index.FunctionalGroupPointer = tag_for_keyword(group)
        ds.DimensionIndexSequence.append(index)


def _contrast(examination: Examination, series: StoredSeries) -> tuple[list[Dataset], list[Dataset]]:
    """Enhanced Contrast/Bolus module and Contrast/Bolus Usage macro (PS3.3 C.7.6.4b, C.7.6.16.2.12).

    One agent item per injection, so that each has its own volume and time.
    """
    product = PRODUCTS[examination.scanner.agent]
    agents, usage = [], []
    for number, injection in enumerate(series.plan.injections, start=1):
        agent = code(product.code, "SCT", product.meaning)
        agent.ContrastBolusAgentNumber = number
        agent.ContrastBolusAdministrationRouteSequence = [code("47625008", "SCT", "Intravenous route")]
        agent.ContrastBolusIngredientCodeSequence = [code("58281002", "SCT", "Gadolinium")]
        volume = administered_volume(injection.dose, examination, product)
        agent.ContrastBolusVolume = decimal(volume)
        agent.ContrastBolusIngredientConcentration = decimal(product.weight_per_volume)
        profile = Dataset()
        profile.ContrastBolusVolume = decimal(volume)
        profile.ContrastBolusStartTime = time_text(examination.at(injection.minute))
        agent.ContrastAdministrationProfileSequence = [profile]
        agents.append(agent)
        used = Dataset()
        used.ContrastBolusAgentNumber = number
        used.ContrastBolusAgentAdministered, used.ContrastBolusAgentDetected = "YES", "YES"
        usage.append(used)
    return agents, usage
