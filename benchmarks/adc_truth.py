"""ADC of written DICOM, converted as the node converts it, against the simulated truth of each tissue.

    python -m benchmarks.adc_truth --anatomy ../shared/data/anatomy

Every study is written by ``write_study`` with the default noise, coil, motion and distortion, read by
``convert_series`` and fitted by ``adc_map``; the scanner's own map is read too where it writes one. Truth is the
subject's ADC averaged over each voxel that the converted series says it has, through the motion and distortion of that
series; only voxels count that hold one tissue alone, after the blur of the simulated point spread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from preprocessing.adc import adc_map, scanner_adc
from preprocessing.convert import convert_series
from preprocessing.volume import FloatArray, Geometry
from simulator.acquisition import ScanEffects, echo_planar_distortion, head_motion, sampled_on
from simulator.grid import Grid
from simulator.lesions import Condition
from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.study import StudyFiles, write_study
from simulator.subject import Subject, SubjectSettings, simulate_subject
from simulator.tissue import Tissue

TISSUES = (
    Tissue.WHITE, Tissue.DEEP_GREY, Tissue.GREY, Tissue.CSF, Tissue.OEDEMA, Tissue.NECROSIS, Tissue.RIM, Tissue.SOLID,
    Tissue.MENINGIOMA, Tissue.LOW_GRADE,
)  # fmt: skip
PURE = 0.999  # of a voxel's signal from one tissue: 1 % of white matter lowers the ADC of CSF by 1 %
SMALLEST = 20  # voxels that a median needs

CASES = (
    (Scanner(Vendor.SIEMENS, 3.0, Layout.CLASSIC), Condition.GLIOBLASTOMA),
    (Scanner(Vendor.SIEMENS, 1.5, Layout.MOSAIC, scanner_adc=True), Condition.METASTASES),
    (Scanner(Vendor.SIEMENS, 3.0, Layout.ENHANCED, scanner_adc=True, b_values=(0, 500, 1000)), Condition.MENINGIOMA),
    (Scanner(Vendor.GE, 1.5, Layout.CLASSIC, scanner_adc=True), Condition.GLIOBLASTOMA),
    (Scanner(Vendor.GE, 3.0, Layout.ENHANCED), Condition.METASTASES),
    (Scanner(Vendor.PHILIPS, 3.0, Layout.CLASSIC, scanner_adc=True), Condition.LOW_GRADE),
    (Scanner(Vendor.PHILIPS, 1.5, Layout.ENHANCED, directions=3), Condition.GLIOBLASTOMA),
)


@dataclass(frozen=True)
class Agreement:
    """Medians in mm²/s over the pure voxels of one tissue; ``scanner`` is None where the scanner wrote no map."""

    case: str
    tissue: Tissue
    voxels: int
    truth: float
    fitted: float
    scanner: float | None

    @property
    def error(self) -> float:
        """Of the fit, relative."""
        return self.fitted / self.truth - 1

    @property
    def scanner_error(self) -> float | None:
        """Of the scanner's map, relative."""
        return None if self.scanner is None else self.scanner / self.truth - 1


def agreements(subject: Subject, scanner: Scanner, files: StudyFiles) -> Iterator[Agreement]:
    """Convert the diffusion of a written study, and compare each tissue that has enough pure voxels."""
    assert files.dwi is not None
    diffusion = convert_series(sorted(files.dwi.glob("*.dcm")))
    fitted = adc_map(diffusion.b_values, diffusion.volumes)
    own: FloatArray | None = None
    if files.adc is not None:
        converted = convert_series(sorted(files.adc.glob("*.dcm"))).adc
        assert converted is not None
        own = scanner_adc(converted).array
    truth = TrueDiffusion.of(subject, scanner, fitted.geometry)
    case = f"{scanner.vendor} {scanner.layout} {scanner.field_tesla:g} T b {'/'.join(map(str, scanner.b_values))}"
    case += ", 3 directions" if scanner.directions else ""
    for tissue in (one for one in TISSUES if (subject.tissues == one).any()):
        pure = truth.pure(tissue)
        if np.count_nonzero(pure) >= SMALLEST:
            yield Agreement(
                case, tissue, int(np.count_nonzero(pure)), float(np.median(truth.adc[pure])),
                float(np.median(fitted.array[pure])), None if own is None else float(np.median(own[pure])),
            )  # fmt: skip


@dataclass(frozen=True)
class TrueDiffusion:
    """The subject as the diffusion series saw it: ``adc`` in mm²/s [k, j, i] on the converted grid."""

    subject: Subject
    scanner: Scanner
    grid: Grid
    adc: FloatArray

    @staticmethod
    def of(subject: Subject, scanner: Scanner, geometry: Geometry) -> TrueDiffusion:
        """The truth on the grid that the converted series claims."""
        grid = Grid.from_matrix(geometry.size, geometry.affine)
        seen = TrueDiffusion(subject, scanner, grid, np.empty(0, np.float32))
        return replace(seen, adc=seen.averaged(subject.parameters(scanner.field_tesla).adc))

    def averaged(self, quantity: FloatArray) -> FloatArray:
        """A map of the subject averaged over each voxel, with the head's pose and distortion in this series."""
        plans = examination(self.scanner, stream(self.subject.seed, "examination"))
        plan = replace(next(plan for plan in plans if plan.kind is Kind.DWI), grid=self.grid)
        effects = ScanEffects()
        warp = echo_planar_distortion(self.subject, effects.distortion)
        return sampled_on(
            quantity, self.subject.grid, plan, head_motion(self.subject.seed, Kind.DWI, effects), warp
        )

    def pure(self, tissue: Tissue) -> NDArray[np.bool_]:
        """Voxels that hold nothing but the tissue."""
        return self.averaged((self.subject.tissues == tissue).astype(np.float32)) >= PURE


def pooled(found: Sequence[Agreement]) -> list[tuple[str, ...]]:
    """Per tissue: the studies that have it, their voxels, the median and the largest error of the studies' medians."""
    rows = [("tissue", "studies", "voxels", "median error", "largest", "scanner's map", "largest")]
    for tissue in TISSUES:
        mine = [one for one in found if one.tissue is tissue]
        if not mine:
            continue
        maps = [error for one in mine if (error := one.scanner_error) is not None]
        rows.append((
            tissue.name.lower(), str(len(mine)), str(sum(one.voxels for one in mine)),
            *_summary([one.error for one in mine]), *_summary(maps),
        ))  # fmt: skip
    return rows


def _summary(errors: Sequence[float]) -> tuple[str, str]:
    if not errors:
        return "-", "-"
    return f"{np.median(errors):+.1%}", f"{max(errors, key=abs):+.1%}"


def row(one: Agreement) -> str:
    """One line of the long table; ADC in 1e-3 mm²/s."""
    own = "" if one.scanner is None else f"{one.scanner * 1e3:8.3f} {one.scanner_error:+7.1%}"
    return (
        f"{one.case:<46} {one.tissue.name.lower():<10} {one.voxels:6d} {one.truth * 1e3:7.3f} "
        f"{one.fitted * 1e3:7.3f} {one.error:+7.1%} {own}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="label maps of heads; without it the packaged anatomy")
    parser.add_argument("--seed", type=int, default=300)
    arguments = parser.parse_args()
    print(f"{'ADC in 1e-3 mm²/s':<46} {'tissue':<10} voxels   truth  fitted   error      map   error")
    found: list[Agreement] = []
    for number, (scanner, condition) in enumerate(CASES):
        settings = SubjectSettings(condition=condition)
        subject = simulate_subject(arguments.seed + number, arguments.anatomy, settings)
        with TemporaryDirectory() as folder:
            for one in agreements(subject, scanner, write_study(subject, Path(folder), scanner)):
                found.append(one)
                print(row(one), flush=True)
    print()
    for line in pooled(found):
        print("".join(f"{cell:<15}" for cell in line).rstrip())


if __name__ == "__main__":
    main()
