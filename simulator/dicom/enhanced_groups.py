"""The functional groups of Enhanced MR that describe one series' acquisition (PS3.3 C.8.13.5)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from simulator.dicom.identity import decimal
from simulator.dicom.private_tags import b_matrix, directionality
from simulator.dicom.sequence_tags import SequenceTags
from simulator.dicom.series import StoredSeries
from simulator.protocol import Kind, SeriesPlan, Weighting
from simulator.scanner import Scanner, Vendor
from simulator.sequences import Diffusion, Flair, Mprage, SpoiledGradientEcho


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def describe(item: Dataset, kind: Kind) -> None:
    """Common CT/MR and MR Image Description macros (PS3.3 C.8.16.2, C.8.13.3.1)."""
    item.PixelPresentation = "MONOCHROME"
    item.VolumetricProperties = "VOLUME"
    item.VolumeBasedCalculationTechnique = "NONE"
    item.ComplexImageComponent = "MAGNITUDE"
    contrast = {Kind.FLAIR: "FLUID_ATTENUATED", Kind.DWI: "DIFFUSION", Kind.ADC: "DIFFUSION"}
    item.AcquisitionContrast = contrast.get(kind, "T1")


def image_type(plan: SeriesPlan, vendor: Vendor) -> list[str]:
    """Four values: whether derived, PRIMARY, what for, how derived (PS3.3 C.8.16.1)."""
    if plan.kind is Kind.ADC:
        return ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    if plan.kind is Kind.DWI:
        trace = vendor is Vendor.SIEMENS and not any(weighting.direction for weighting in plan.weightings)
        return ["DERIVED" if trace else "ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW" if trace else "NONE"]
    if vendor is Vendor.SIEMENS:
        return ["ORIGINAL", "PRIMARY", "M", "NONE"]
    return ["ORIGINAL", "PRIMARY", "FLUID_ATTENUATED" if plan.kind is Kind.FLAIR else "T1", "NONE"]


def pulse_sequence(series: StoredSeries, scanner: Scanner, tags: SequenceTags) -> Dataset:
    """MR Pulse Sequence module (PS3.3 C.8.13.4); derived images must not have one (XA30's have it nevertheless)."""
    plan = series.plan
    ds = Dataset()
    if image_type(plan, scanner.vendor)[0] != "ORIGINAL":
        return ds
    ds.PulseSequenceName = tags.sequence_name
    ds.MRAcquisitionType = tags.acquisition_type
    ds.EchoPulseSequence = "GRADIENT" if isinstance(plan.sequence, Mprage | SpoiledGradientEcho) else "SPIN"
    if ds.EchoPulseSequence == "SPIN":
        ds.MultipleSpinEcho = "YES" if isinstance(plan.sequence, Flair) else "NO"
    ds.MultiPlanarExcitation = "NO"
    ds.PhaseContrast = "NO"
    ds.TimeOfFlightContrast = "NO"
    ds.SteadyStatePulseSequence = "NONE"
    ds.EchoPlanarPulseSequence = "YES" if isinstance(plan.sequence, Diffusion) else "NO"
    ds.SaturationRecovery = "NO"
    ds.SpectrallySelectedSuppression = "FAT" if isinstance(plan.sequence, Diffusion) else "NONE"
    ds.OversamplingPhase = "NONE"
    ds.GeometryOfKSpaceTraversal = "RECTILINEAR"
    ds.RectilinearPhaseEncodeReordering = "LINEAR"
    ds.SegmentedKSpaceTraversal = "SINGLE" if isinstance(plan.sequence, Diffusion) else "PARTIAL"
    if tags.acquisition_type == "3D":
        ds.CoverageOfKSpace = "FULL"
    ds.NumberOfKSpaceTrajectories = 1
    return ds


def shared_groups(series: StoredSeries, scanner: Scanner, tags: SequenceTags, began: str) -> Dataset:
    """What is the same in every frame, but for the b-value."""
    plan = series.plan
    columns, rows, _ = plan.grid.size
    groups = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [decimal(round(plan.grid.spacing[1], 6)), decimal(round(plan.grid.spacing[0], 6))]
    measures.SliceThickness = decimal(plan.thickness)
    measures.SpacingBetweenSlices = decimal(round(plan.grid.spacing[2], 6))
    groups.PixelMeasuresSequence = [measures]
    plane = Dataset()
    directions = plan.grid.directions
    plane.ImageOrientationPatient = [decimal(v) for v in (*directions[:, 0], *directions[:, 1])]
    groups.PlaneOrientationSequence = [plane]
    anatomy = Dataset()
    anatomy.AnatomicRegionSequence = [code("12738006", "SCT", "Brain")]
    anatomy.FrameLaterality = "B"
    groups.FrameAnatomySequence = [anatomy]
    if scanner.vendor is not Vendor.PHILIPS:
        groups.PixelValueTransformationSequence = [value_transformation(series)]
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = decimal(series.window[0]), decimal(series.window[1])
    groups.FrameVOILUTSequence = [voi]
    frame_type = Dataset()
    frame_type.FrameType = image_type(plan, scanner.vendor)
    describe(frame_type, plan.kind)
    groups.MRImageFrameTypeSequence = [frame_type]
    groups.MRTimingAndRelatedParametersSequence = [_timing(tags)]
    echo = Dataset()
    echo.EffectiveEchoTime = tags.echo
    groups.MREchoSequence = [echo]
    groups.MRModifierSequence = [_modifier(tags)]
    groups.MRImagingModifierSequence = [_imaging(scanner, tags)]
    groups.MRFOVGeometrySequence = [_field_of_view(rows, columns)]
    averages = Dataset()
    averages.NumberOfAverages = decimal(1)
    groups.MRAveragesSequence = [averages]
    groups.MRReceiveCoilSequence = [_receive_coil()]
    groups.MRTransmitCoilSequence = [_transmit_coil()]
    return groups


def value_transformation(series: StoredSeries) -> Dataset:
    """Pixel Value Transformation macro (PS3.3 C.7.6.16.2.9); Philips states it frame by frame."""
    item = Dataset()
    item.RescaleIntercept, item.RescaleSlope, item.RescaleType = decimal(0), decimal(series.slope), "US"
    return item


def diffusion(weighting: Weighting, vendor: Vendor) -> Dataset:
    """MR Diffusion macro (PS3.3 C.8.13.5.9); Siemens states the b-matrix of single directions as well."""
    item = Dataset()
    item.DiffusionBValue = float(weighting.b)
    item.DiffusionDirectionality = directionality(weighting)
    if weighting.b and weighting.direction is not None:
        gradient = Dataset()
        gradient.DiffusionGradientOrientation = list(weighting.direction)
        item.DiffusionGradientDirectionSequence = [gradient]
        if vendor is Vendor.SIEMENS:
            item.DiffusionDirectionality = "BMATRIX"
            matrix = Dataset()
            for name, value in zip(("XX", "XY", "XZ", "YY", "YZ", "ZZ"), b_matrix(weighting), strict=True):
                setattr(matrix, f"DiffusionBValue{name}", value)
            item.DiffusionBMatrixSequence = [matrix]
    return item


def _timing(tags: SequenceTags) -> Dataset:
    item = Dataset()
    item.RepetitionTime = decimal(tags.repetition)
    item.FlipAngle = decimal(tags.flip)
    item.EchoTrainLength = tags.echo_train
    gradient = tags.scanning_sequence[0] in ("GR", "EP")
    item.RFEchoTrainLength = 0 if gradient else tags.echo_train
    item.GradientEchoTrainLength = tags.echo_train if gradient else 0
    mode = Dataset()
    mode.OperatingModeType, mode.OperatingMode = "RF", "IEC_NORMAL"
    item.OperatingModeSequence = [mode]
    absorption = Dataset()
    absorption.SpecificAbsorptionRateDefinition, absorption.SpecificAbsorptionRateValue = "IEC_HEAD", 0.5
    item.SpecificAbsorptionRateSequence = [absorption]
    item.GradientOutputType, item.GradientOutput = "DB_DT", 50.0
    return item


def _modifier(tags: SequenceTags) -> Dataset:
    item = Dataset()
    item.InversionRecovery = "NO" if tags.inversion is None else "YES"
    if tags.inversion is not None:
        item.InversionTimes = [tags.inversion]
    item.FlowCompensation = "NONE"
    item.Spoiling = "RF" if "SP" in tags.sequence_variant else "NONE"
    item.T2Preparation = "NO"
    item.SpectrallySelectedExcitation = "NONE"
    item.SpatialPresaturation = "NONE"
    item.PartialFourier = "NO"
    item.ParallelAcquisition = "NO"
    return item


def _imaging(scanner: Scanner, tags: SequenceTags) -> Dataset:
    item = Dataset()
    item.MagnetizationTransfer = "NONE"
    item.BloodSignalNulling = "NO"
    item.Tagging = "NONE"
    item.TransmitterFrequency = round(42.577 * scanner.field_tesla, 4)
    item.PixelBandwidth = decimal(tags.bandwidth)
    return item


def _field_of_view(rows: int, columns: int) -> Dataset:
    item = Dataset()
    item.InPlanePhaseEncodingDirection = "ROW"
    item.MRAcquisitionFrequencyEncodingSteps = rows
    item.MRAcquisitionPhaseEncodingStepsInPlane = columns
    item.MRAcquisitionPhaseEncodingStepsOutOfPlane = 1
    item.PercentSampling, item.PercentPhaseFieldOfView = decimal(100), decimal(100)
    return item


def _receive_coil() -> Dataset:
    item = Dataset()
    item.ReceiveCoilName, item.ReceiveCoilManufacturerName = "Head", ""
    item.ReceiveCoilType, item.QuadratureReceiveCoil = "VOLUME", "YES"
    return item


def _transmit_coil() -> Dataset:
    item = Dataset()
    item.TransmitCoilName, item.TransmitCoilManufacturerName, item.TransmitCoilType = "Body", "", "BODY"
    return item
