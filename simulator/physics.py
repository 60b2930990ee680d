"""A check of the whole chain: signals measured in acquired images beside the closed-form values of their tissues.

``python -m simulator.physics`` prints the table for both fields.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from simulator.acquisition import Acquired, ScanEffects, acquire, head_motion, sampled_on
from simulator.kinetics import concentrations, relaxivity
from simulator.lesions import Condition
from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.scanner import Scanner
from simulator.sequences import Diffusion, relaxed
from simulator.subject import Subject, SubjectSettings, simulate_subject
from simulator.tissue import Tissue, TissueTable, tissue_table

CLEAN = ScanEffects(bias=0.0, motion=0.0, distortion=0.0)
# Tissues with an interior that partial volume does not reach, and whose signal is the same all over.
MEASURED = (Tissue.WHITE, Tissue.DEEP_GREY, Tissue.CSF, Tissue.OEDEMA, Tissue.NECROSIS, Tissue.RIM, Tissue.SOLID)
SMALLEST = 40  # voxels that a median needs


@dataclass(frozen=True)
class Comparison:
    """``measured`` and ``expected`` signal relative to white matter before contrast, or ADC in mm²/s."""

    tissue: Tissue
    kind: Kind
    field_tesla: float
    measured: float
    expected: float
    voxels: int

    @property
    def error(self) -> float:
        """Relative difference."""
        return self.measured / self.expected - 1


def compare(subject: Subject, scanner: Scanner) -> Iterator[Comparison]:
    """Every series against the closed form of each tissue that has enough pure voxels; bias and motion are off."""
    table = tissue_table(scanner.field_tesla, stream(subject.seed, "relaxation"))
    plans = examination(scanner, stream(subject.seed, "examination"))
    interiors = {t: ndimage.binary_erosion(subject.tissues == t, iterations=2) for t in MEASURED}
    for acquired in acquire(subject, scanner, plans, CLEAN):
        move = head_motion(subject.seed, acquired.plan.kind, CLEAN)
        for tissue, interior in interiors.items():
            if acquired.plan.kind is Kind.DWI or not interior.any():
                continue
            pure = sampled_on(interior.astype(np.float32), subject.grid, acquired.plan, move) > 0.98
            expected = _expected(acquired, tissue, table, scanner)
            if pure.sum() >= SMALLEST and expected > 0:
                measured = float(np.median(acquired.volumes[0][pure]))
                yield Comparison(tissue, acquired.plan.kind, scanner.field_tesla, measured, expected, int(pure.sum()))


def enhancement_share(subject: Subject, scanner: Scanner) -> float:
    """Low-dose difference over full-dose difference in the enhancing lesion: not a quarter, and not constant."""
    plans = [p for p in examination(scanner, stream(subject.seed, "examination")) if p.is_t1]
    before, low, full = (one.volumes[0] for one in acquire(subject, scanner, tuple(plans), CLEAN))
    inside = sampled_on(subject.lesion.astype(np.float32), subject.grid, plans[0], np.eye(4)) > 0.9
    if inside.sum() < SMALLEST:
        raise ValueError("this subject has no enhancing lesion large enough to measure; choose another condition")
    return float((low - before)[inside].mean() / (full - before)[inside].mean())


def _expected(acquired: Acquired, tissue: Tissue, table: TissueTable, scanner: Scanner) -> float:
    plan = acquired.plan

    def one(values: NDArray[np.float32], which: Tissue) -> NDArray[np.float32]:
        return values[which : which + 1]

    if isinstance(plan.sequence, Diffusion):
        return float(table.adc[tissue])
    t1 = one(table.t1, tissue)
    if plan.injections:
        agent = one(concentrations(plan.minute, plan.injections), tissue)
        t1 = relaxed(t1, agent, relaxivity(scanner.agent, scanner.field_tesla))
    signal = plan.sequence.signal(t1, one(table.t2, tissue), one(table.density, tissue))
    white = (one(values, Tissue.WHITE) for values in (table.t1, table.t2, table.density))
    return float(abs(signal[0]) / plan.sequence.signal(*white)[0])


def main(anatomy: Path | None = None) -> None:
    """Print the table."""
    subject = simulate_subject(4, anatomy, SubjectSettings(condition=Condition.GLIOBLASTOMA))
    print(f"{'tissue':12}{'series':11}{'field T':>8}{'measured':>12}{'expected':>12}{'error':>8}{'voxels':>8}")
    for field_tesla in (1.5, 3.0):
        scanner = Scanner(field_tesla=field_tesla, scanner_adc=True, noise=0.01)
        for row in compare(subject, scanner):
            print(
                f"{row.tissue.name.lower():12}{row.kind:11}{row.field_tesla:8g}{row.measured:12.4g}{row.expected:12.4g}"
                f"{row.error:8.1%}{row.voxels:8d}"
            )
        share = enhancement_share(subject, scanner)
        print(f"low-dose over full-dose enhancement of the lesion at {field_tesla:g} T: {share:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
