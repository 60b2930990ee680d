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

from simulator.acquisition import Acquired, ScanEffects, acquire, sampled_on, white_signal
from simulator.kinetics import relaxivity
from simulator.lesions import Condition
from simulator.network import around_brain
from simulator.protocol import UNWEIGHTED, Kind, examination
from simulator.randomness import stream
from simulator.scanner import Scanner
from simulator.sequences import Diffusion, relaxed
from simulator.subject import ParameterMaps, Subject, SubjectSettings, simulate_subject
from simulator.tissue import Tissue

FloatArray = NDArray[np.float32]

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
    """Every series against the closed form of each tissue that has enough pure voxels; bias and motion are off.

    Expected values come from the medians of the true T1, T2, density and concentration inside each tissue.
    """
    subject = around_brain(subject)
    truth = subject.parameters(scanner.field_tesla)
    plans = examination(scanner, stream(subject.seed, "examination"))
    interiors = {t: ndimage.binary_erosion(subject.tissues == t, iterations=2) for t in MEASURED}
    for acquired in acquire(subject, scanner, plans, CLEAN):
        agent = subject.concentration(acquired.plan.minute, acquired.plan.injections)
        for tissue, interior in interiors.items():
            if acquired.plan.kind is Kind.DWI or not interior.any():
                continue
            pure = sampled_on(interior.astype(np.float32), subject.grid, acquired.plan, np.eye(4)) > 0.98
            expected = _expected(acquired, _medians(truth, agent, interior), scanner, truth, subject)
            if pure.sum() >= SMALLEST and expected > 0:
                measured = float(np.median(acquired.volumes[UNWEIGHTED][pure]))
                yield Comparison(tissue, acquired.plan.kind, scanner.field_tesla, measured, expected, int(pure.sum()))


def enhancement_share(subject: Subject, scanner: Scanner) -> float:
    """Low-dose difference over full-dose difference in the enhancing lesion: not a quarter, and not constant."""
    subject = around_brain(subject)
    plans = [p for p in examination(scanner, stream(subject.seed, "examination")) if p.is_t1]
    before, low, full = (one.volumes[UNWEIGHTED] for one in acquire(subject, scanner, tuple(plans), CLEAN))
    inside = sampled_on(subject.lesion.astype(np.float32), subject.grid, plans[0], np.eye(4)) > 0.9
    if inside.sum() < SMALLEST:
        raise ValueError("this subject has no enhancing lesion large enough to measure; choose another condition")
    return float((low - before)[inside].mean() / (full - before)[inside].mean())


def _medians(truth: ParameterMaps, agent: FloatArray, where: NDArray[np.bool_]) -> dict[str, FloatArray]:
    maps = {"t1": truth.t1, "t2": truth.t2, "density": truth.density, "adc": truth.adc, "agent": agent}
    return {name: np.array([np.median(values[where])], dtype=np.float32) for name, values in maps.items()}


def _expected(
    acquired: Acquired, tissue: dict[str, FloatArray], scanner: Scanner, truth: ParameterMaps, subject: Subject
) -> float:
    sequence = acquired.plan.sequence
    if isinstance(sequence, Diffusion):
        return float(tissue["adc"][0])
    t1 = tissue["t1"]
    if acquired.plan.injections:
        t1 = relaxed(t1, tissue["agent"], relaxivity(scanner.agent, scanner.field_tesla))
    signal = sequence.signal(t1, tissue["t2"], tissue["density"])
    return float(abs(signal[0]) / white_signal(subject, truth, scanner, acquired.plan))


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
