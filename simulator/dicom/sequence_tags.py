"""How each vendor describes its sequences: scanning sequence and variant, times, flip angle, Image Type.

Values as found in files of the three vendors; PS3.3 C.8.3.1 defines the attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.protocol import Kind, SeriesPlan
from simulator.scanner import Vendor
from simulator.sequences import Diffusion, Flair, Mprage, SpinEcho


@dataclass(frozen=True)
class SequenceTags:
    """Attribute values of the MR Image module. Times in ms, flip angle in degrees, bandwidth in Hz per pixel."""

    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    scan_options: tuple[str, ...]
    acquisition_type: str
    repetition: float
    echo: float
    inversion: float | None
    flip: float
    echo_train: int
    sequence_name: str
    bandwidth: float


def sequence_tags(plan: SeriesPlan, vendor: Vendor) -> SequenceTags:
    """The tags of one series."""
    sequence = plan.sequence
    scanning: tuple[str, ...]
    if isinstance(sequence, Mprage):
        scanning, variant, options = {
            Vendor.SIEMENS: (("GR", "IR"), ("SK", "SP", "MP"), ("IR",)),
            Vendor.GE: (("GR", "IR"), ("SS", "SP", "SK"), ("FAST_GEMS", "EDR_GEMS", "FILTERED_GEMS")),
            Vendor.PHILIPS: (("GR", "IR"), ("MP",), ("OTHER",)),
        }[vendor]
        # Siemens calls the whole inversion cycle TR; the others the distance of two echoes.
        repetition = sequence.repetition if vendor is Vendor.SIEMENS else sequence.echo_spacing
        name = {Vendor.SIEMENS: "*tfl3d1_16ns", Vendor.GE: "BRAVO", Vendor.PHILIPS: "T1TFE"}[vendor]
        echo_train = 1 if vendor is not Vendor.PHILIPS else sequence.echoes
        return SequenceTags(
            scanning,
            variant,
            options,
            "3D",
            repetition,
            sequence.echo,
            sequence.inversion,
            sequence.flip,
            echo_train,
            name,
            200.0,
        )
    if isinstance(sequence, Flair):
        variant, options, name = {
            Vendor.SIEMENS: (("SK", "SP", "MP"), ("IR", "PFP"), "*tir2d1rs16"),
            Vendor.GE: (("SK",), ("FAST_GEMS", "EDR_GEMS", "FC"), "fse-xl"),
            Vendor.PHILIPS: (("SK",), ("OTHER",), "TIR"),
        }[vendor]
        scanning = ("IR",) if vendor is Vendor.PHILIPS else ("SE", "IR")
        return SequenceTags(
            scanning,
            variant,
            options,
            "2D",
            sequence.repetition,
            sequence.echo,
            sequence.inversion,
            90.0 if vendor is not Vendor.SIEMENS else 150.0,
            sequence.echoes,
            name,
            220.0,
        )
    if isinstance(sequence, Diffusion):
        scanning, variant, options, name = {
            Vendor.SIEMENS: (("EP",), ("SK", "SP"), ("PFP", "FS"), "*ep_b1000t"),
            Vendor.GE: (("EP", "SE"), ("NONE",), ("EPI_GEMS", "PFF_GEMS"), "epi2"),
            Vendor.PHILIPS: (("SE",), ("SK",), ("FS",), "DwiSE"),
        }[vendor]
        train = {Vendor.SIEMENS: 64, Vendor.GE: 1, Vendor.PHILIPS: 63}[vendor]
        return SequenceTags(
            scanning,
            variant,
            options,
            "2D",
            sequence.repetition,
            sequence.echo,
            None,
            90.0,
            train,
            name,
            1530.0,
        )
    if isinstance(sequence, SpinEcho):
        return SequenceTags(
            ("SE",),
            ("SK", "SP"),
            ("PFP",),
            "2D",
            sequence.repetition,
            sequence.echo,
            None,
            90.0,
            1,
            "*se2d1",
            130.0,
        )
    variant, name = {
        Vendor.SIEMENS: (("SP",), "*fl3d1"),
        Vendor.GE: (("SS", "SP"), "SPGR"),
        Vendor.PHILIPS: (("SP",), "T1FFE"),
    }[vendor]
    return SequenceTags(
        ("GR",),
        variant,
        ("PFP",),
        "3D",
        sequence.repetition,
        sequence.echo,
        None,
        sequence.flip,
        1,
        name,
        240.0,
    )


def image_type(plan: SeriesPlan, vendor: Vendor) -> tuple[str, ...]:
    """Image Type (0008,0008) of classic images."""
    if plan.kind is Kind.DWI:
        single = any(weighting.direction for weighting in plan.weightings)
        return {
            Vendor.SIEMENS: ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "ND", "NORM")
            if single
            else ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND", "NORM"),
            Vendor.GE: ("ORIGINAL", "PRIMARY", "OTHER"),
            Vendor.PHILIPS: ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
        }[vendor]
    if plan.kind is Kind.ADC:
        return {
            Vendor.SIEMENS: ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND", "NORM"),
            Vendor.GE: ("DERIVED", "PRIMARY", "ADC"),
            Vendor.PHILIPS: ("DERIVED", "PRIMARY", "ADC", "ADC", "UNSPECIFIED"),
        }[vendor]
    if vendor is Vendor.SIEMENS:
        return ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
    if vendor is Vendor.GE:
        return ("ORIGINAL", "PRIMARY", "OTHER")
    flair = plan.kind is Kind.FLAIR
    return ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR") if flair else ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")
