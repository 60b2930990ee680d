"""How an MR image was acquired, in the classic terms (PS3.3 C.8.3.1), also when it is enhanced (C.8.13)."""

from __future__ import annotations

from dataclasses import dataclass

from node.header.elements import Elements
from node.header.frames import Macros

TAGS: list[str | int] = [
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "PulseSequenceName",
    "AngioFlag", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "MagneticFieldStrength", "RescaleType", "EchoPulseSequence", "EchoPlanarPulseSequence", "TimeOfFlightContrast",
    "PhaseContrast", "SteadyStatePulseSequence", "SaturationRecovery", "ComplexImageComponent", "AcquisitionContrast",
    "RealWorldValueMappingSequence",
]  # fmt: skip

_TIMING, _MODIFIER = "MRTimingAndRelatedParametersSequence", "MRModifierSequence"


@dataclass(frozen=True)
class MrSequence:
    """Times in ms, flip angle in degrees, field in T; None and "" for what is not written."""

    sequence_name: str = ""
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    mr_acquisition_type: str = ""
    acquisition_contrast: str = ""
    complex_component: str = ""
    angio: bool = False
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_deg: float | None = None
    echo_train_length: int | None = None
    field_t: float | None = None
    units: str = ""


def mr_sequence(elements: Elements, macros: Macros) -> MrSequence:
    """Read the acquisition of a classic or enhanced MR instance; other objects give an empty one."""
    train = _first(elements.number("EchoTrainLength"), macros.number(_TIMING, "RFEchoTrainLength"),
                   macros.number(_TIMING, "EchoTrainLength"))  # fmt: skip
    return MrSequence(
        sequence_name=elements.text("SequenceName") or elements.text("PulseSequenceName"),
        scanning_sequence=elements.texts("ScanningSequence") or _scanning_sequence(elements, macros),
        sequence_variant=elements.texts("SequenceVariant") or _variant(elements, macros),
        scan_options=elements.texts("ScanOptions"),
        mr_acquisition_type=elements.text("MRAcquisitionType"),
        acquisition_contrast=elements.text("AcquisitionContrast")
        or macros.text("MRImageFrameTypeSequence", "AcquisitionContrast"),
        complex_component=elements.text("ComplexImageComponent")
        or macros.text("MRImageFrameTypeSequence", "ComplexImageComponent"),
        angio=elements.text("AngioFlag") == "Y"
        or "YES" in (elements.text("TimeOfFlightContrast"), elements.text("PhaseContrast")),
        tr_ms=_first(elements.number("RepetitionTime"), macros.number(_TIMING, "RepetitionTime")),
        te_ms=_first(elements.number("EchoTime"), macros.number("MREchoSequence", "EffectiveEchoTime")),
        ti_ms=_positive(elements.number("InversionTime"), macros.number(_MODIFIER, "InversionTimes")),
        flip_deg=_first(elements.number("FlipAngle"), macros.number(_TIMING, "FlipAngle")),
        echo_train_length=None if train is None else int(train),
        field_t=_tesla(elements.number("MagneticFieldStrength")),
        units=_units(elements, macros),
    )


def _scanning_sequence(elements: Elements, macros: Macros) -> tuple[str, ...]:
    echo = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(elements.text("EchoPulseSequence"), ())
    planar = ("EP",) if elements.text("EchoPlanarPulseSequence") == "YES" else ()
    inverted = ("IR",) if macros.text(_MODIFIER, "InversionRecovery") == "YES" else ()
    return echo + planar + inverted


def _variant(elements: Elements, macros: Macros) -> tuple[str, ...]:
    spoiled = ("SP",) if macros.text(_MODIFIER, "Spoiling") not in ("", "NONE") else ()
    steady = ("SS",) if elements.text("SteadyStatePulseSequence") not in ("", "NONE") else ()
    transfer = macros.text("MRImagingModifierSequence", "MagnetizationTransfer")
    return spoiled + steady + (("MTC",) if transfer not in ("", "NONE") else ())


def _units(elements: Elements, macros: Macros) -> str:
    mapped = elements.items("RealWorldValueMappingSequence") or macros.items("RealWorldValueMappingSequence")
    codes = [code.text("CodeValue") for item in mapped for code in item.items("MeasurementUnitsCodeSequence")]
    return next((code for code in codes if code), "") or (
        elements.text("RescaleType") or macros.text("PixelValueTransformationSequence", "RescaleType")
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _positive(*values: float | None) -> float | None:
    """The first value above 0: scanners write an inversion time of 0 where there is no inversion."""
    return next((value for value in values if value is not None and value > 0), None)


def _tesla(field: float | None) -> float | None:
    """Some older scanners wrote the field in gauss."""
    return field / 1e4 if field is not None and field > 100 else field
