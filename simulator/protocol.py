"""The examination of the paper's figure 1: T1, FLAIR, DWI, a quarter dose, T1, the rest of the dose, T1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from simulator.deformation import rotation
from simulator.grid import Grid
from simulator.kinetics import Injection
from simulator.scanner import Scanner, Vendor
from simulator.sequences import Diffusion, Flair, Mprage, SpoiledGradientEcho, T1Sequence

LOW_DOSE, REST_OF_DOSE = 0.025, 0.075  # mmol/kg (paper, section 2)


class Kind(StrEnum):
    """The series of the examination."""

    T1 = "t1"
    FLAIR = "flair"
    DWI = "dwi"
    ADC = "adc"
    LOW_DOSE = "low_dose"
    FULL_DOSE = "full_dose"


@dataclass(frozen=True)
class Weighting:
    """The diffusion weighting of one volume: ``b`` in s/mm², and along which gradient.

    ``direction`` is a unit vector in patient coordinates (LPS), as Diffusion Gradient Orientation (0018,9089) has it;
    none at b=0 and for the trace of three directions.
    """

    b: int = 0
    direction: tuple[float, float, float] | None = None


UNWEIGHTED = Weighting()


@dataclass(frozen=True)
class SeriesPlan:
    """One series: when (minutes of the examination), how and where it is acquired.

    ``grid`` is the native grid in the scanner's LPS coordinates; ``thickness`` the slice thickness in mm;
    ``injections`` those given before it; ``weightings`` its volumes in the order of acquisition, b=0 first.
    """

    kind: Kind
    number: int
    start: float
    duration: float
    sequence: T1Sequence | Flair | Diffusion
    grid: Grid
    thickness: float
    description: str
    injections: tuple[Injection, ...] = ()
    weightings: tuple[Weighting, ...] = (UNWEIGHTED,)

    @property
    def minute(self) -> float:
        """When the middle of k-space is sampled, which sets the contrast."""
        return self.start + self.duration / 2

    @property
    def is_t1(self) -> bool:
        """Whether it is one of the three T1 series."""
        return self.kind in (Kind.T1, Kind.LOW_DOSE, Kind.FULL_DOSE)

    @property
    def phase_along_rows(self) -> bool:
        """Whether lines of k-space are encoded along the rows of the image (In-plane Phase Encoding Direction ROW)."""
        return self.is_t1 or self.kind is Kind.FLAIR


_DESCRIPTIONS = {
    Vendor.SIEMENS: {
        Kind.T1: "t1_mprage_sag",
        Kind.FLAIR: "t2_tirm_tra_dark-fluid",
        Kind.DWI: "ep2d_diff_tra_{all}",
        Kind.ADC: "ep2d_diff_tra_{all}_ADC",
        Kind.LOW_DOSE: "t1_mprage_sag_gd_low",
        Kind.FULL_DOSE: "t1_mprage_sag_gd",
    },
    Vendor.GE: {
        Kind.T1: "Sag 3D T1 BRAVO",
        Kind.FLAIR: "Ax T2 FLAIR",
        Kind.DWI: "Ax DWI b{highest}",
        Kind.ADC: "ADC (10^-6 mm2/s)",
        Kind.LOW_DOSE: "Sag 3D T1 BRAVO +Gd 25%",
        Kind.FULL_DOSE: "Sag 3D T1 BRAVO +Gd",
    },
    Vendor.PHILIPS: {
        Kind.T1: "sT1W_3D_TFE",
        Kind.FLAIR: "T2W_FLAIR",
        Kind.DWI: "DWI_SSh",
        Kind.ADC: "dADC",
        Kind.LOW_DOSE: "sT1W_3D_TFE_GD_LOW",
        Kind.FULL_DOSE: "sT1W_3D_TFE_GD",
    },
}


def examination(scanner: Scanner, rng: np.random.Generator) -> tuple[SeriesPlan, ...]:
    """The series in the order of acquisition, with the technologist's small differences from one day to the next."""
    t1 = _t1_sequence(scanner)
    null = 2240.0  # where CSF (T1 3.9 s) crosses zero with this TR and echo train
    flair = Flair(repetition=9000.0, inversion=null, echo=float(rng.choice([95.0, 110.0, 122.0, 135.0])))
    diffusion = Diffusion(echo=float(rng.choice([70.0, 78.0, 89.0])))
    # Axial slices are tilted towards the line of the commissures and never quite straight.
    axial = rotation(np.array([rng.uniform(-14, 4), rng.uniform(-3, 3), rng.uniform(-3, 3)]))
    sagittal = rotation(np.array([rng.uniform(-3, 3), rng.uniform(-2, 2), rng.uniform(-3, 3)]))
    centre = rng.uniform(-4, 4, 3)
    t1_grid = sagittal_grid(sagittal, scanner.t1_slice_mm, centre, scanner.vendor)
    flair_slice = float(rng.choice([4.0, 4.5, 5.0]))
    flair_grid = axial_grid(axial, (256, 256), 0.9, flair_slice * 1.1, centre)
    dwi_grid = axial_grid(axial, (128, 128), 1.8, 4.0, centre)
    words = _DESCRIPTIONS[scanner.vendor]
    dwi, adc = (words[kind].format(**_b_values_in_words(scanner)) for kind in (Kind.DWI, Kind.ADC))
    first = Injection(float(rng.uniform(15.5, 16.5)), LOW_DOSE)
    second = Injection(first.minute + float(rng.uniform(8.0, 10.0)), REST_OF_DOSE)
    low_start = first.minute + float(rng.uniform(2.0, 3.0))
    full_start = second.minute + float(rng.uniform(2.0, 3.0))
    plans = [
        SeriesPlan(Kind.T1, 2, 2.0, 4.7, t1, t1_grid, scanner.t1_slice_mm, words[Kind.T1]),
        SeriesPlan(Kind.FLAIR, 3, 7.2, 4.1, flair, flair_grid, flair_slice, words[Kind.FLAIR]),
        SeriesPlan(Kind.DWI, 4, 11.9, 2.2, diffusion, dwi_grid, 4.0, dwi, weightings=weightings(scanner, axial)),
    ]
    if scanner.scanner_adc:
        plans.append(SeriesPlan(Kind.ADC, 5, 11.9, 2.2, diffusion, dwi_grid, 4.0, adc))
    return (
        *plans,
        SeriesPlan(Kind.LOW_DOSE, 6, low_start, 4.7, t1, t1_grid, scanner.t1_slice_mm, words[Kind.LOW_DOSE], (first,)),
        SeriesPlan(
            Kind.FULL_DOSE, 7, full_start, 4.7, t1, t1_grid, scanner.t1_slice_mm, words[Kind.FULL_DOSE], (first, second)
        ),
    )


def weightings(scanner: Scanner, directions: NDArray[np.float64]) -> tuple[Weighting, ...]:
    """The volumes of the diffusion series. Single directions are the columns of ``directions``: the axes of the image,
    so that gradients are orthogonal and their mean is the trace."""
    first, *others = scanner.b_values
    gradients: list[tuple[float, float, float] | None] = [None]
    if scanner.directions:
        gradients = [(float(x), float(y), float(z)) for x, y, z in directions.T]
    return Weighting(first), *(Weighting(b, gradient) for b in others for gradient in gradients)


def _b_values_in_words(scanner: Scanner) -> dict[str, str]:
    return {"all": "_".join(f"b{b}" for b in scanner.b_values), "highest": str(scanner.b_values[-1])}


def sagittal_grid(turn: NDArray[np.float64], slice_mm: float, centre: NDArray[np.float64], vendor: Vendor) -> Grid:
    """256 × 256 at 1 mm, partitions over 173 mm: columns run to posterior, rows to inferior."""
    across = 1.0 if vendor is Vendor.SIEMENS else -1.0  # Siemens numbers from right to left, the others the other way
    directions = turn @ np.array([[0.0, 0.0, across], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    slices = round(172.8 / slice_mm)
    # The field of view reaches from the vertex to the neck: its centre lies below the brain's.
    return Grid.of((256, 256, slices), directions, (1.0, 1.0, slice_mm), centre + np.array([0.0, 0.0, -20.0]))


def axial_grid(
    turn: NDArray[np.float64], matrix: tuple[int, int], pixel: float, step: float, centre: NDArray[np.float64]
) -> Grid:
    """Axial slices from the foramen magnum to the vertex: columns run to the left, rows to posterior."""
    slices = int(np.ceil(168 / step))
    return Grid.of((matrix[0], matrix[1], slices), turn, (pixel, pixel, step), centre + np.array([0.0, 0.0, 0.0]))


def _t1_sequence(scanner: Scanner) -> T1Sequence:
    if scanner.t1_sequence == "spgr":
        return SpoiledGradientEcho(repetition=9.0 if scanner.field_tesla == 3.0 else 11.0)
    if scanner.vendor is Vendor.GE:
        return Mprage(repetition=1900.0, inversion=850.0)
    if scanner.vendor is Vendor.PHILIPS:
        return Mprage(repetition=2000.0, inversion=850.0)
    return Mprage()
