"""Signal equations of the sequences, from T1 and T2 (ms), proton density, ADC (mm²/s) and contrast concentration.

Signals keep their sign (an inversion can leave magnetisation negative), so that partial volume adds up as in the
scanner; magnitude comes last, in ``simulator.acquisition``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

INVERSION_EFFICIENCY = 0.96  # adiabatic pulses [A]


def relaxed(t1: FloatArray, concentration: FloatArray | float, relaxivity: float) -> FloatArray:
    """T1 in ms with contrast agent: R1 = 1/T10 + r1 C, with r1 in L/mmol/s and C in mmol/L."""
    return np.asarray(1.0 / (1.0 / t1 + relaxivity * concentration / 1000.0), dtype=np.float32)


@dataclass(frozen=True)
class Mprage:
    """Magnetisation-prepared rapid gradient echo: inversion, wait, a train of ``echoes`` small flips, recovery.

    ``repetition`` from inversion to inversion, ``inversion`` from inversion to the middle of the train,
    ``echo_spacing`` and ``echo`` in ms; ``flip`` in degrees.
    """

    repetition: float = 2000.0
    inversion: float = 900.0
    echo: float = 2.9
    echo_spacing: float = 6.5
    flip: float = 12.0
    echoes: int = 176

    def longitudinal(self, t1: NDArray[np.float64]) -> NDArray[np.float64]:
        """Steady-state magnetisation before the middle pulse of the train, relative to equilibrium."""
        cosine = np.cos(np.radians(self.flip))
        decay = np.exp(-self.echo_spacing / t1)
        before = self.inversion - self.echoes / 2 * self.echo_spacing
        after = self.repetition - before - self.echoes * self.echo_spacing
        if before < 0 or after < 0:
            raise ValueError(f"TI {self.inversion:g} ms or TR {self.repetition:g} ms is too short for the echo train")
        saturated = (1 - decay) / (1 - cosine * decay)
        # Each interval maps M to offset + slope · M; the cycle's fixed point is the steady state before inversion.
        stages = [
            (0.0, -INVERSION_EFFICIENCY * np.ones_like(t1)),
            _recovery(before, t1),
            (saturated * (1 - (cosine * decay) ** self.echoes), (cosine * decay) ** self.echoes),
            _recovery(after, t1),
        ]
        offset, slope = np.zeros_like(t1), np.ones_like(t1)
        for stage_offset, stage_slope in stages:
            offset, slope = stage_offset + stage_slope * offset, stage_slope * slope
        steady = offset / (1 - slope)
        start = stages[1][0] + stages[1][1] * (-INVERSION_EFFICIENCY * steady)
        half = (cosine * decay) ** (self.echoes / 2)
        return np.asarray(saturated * (1 - half) + start * half)

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Signal, in units of fully relaxed water."""
        # The curve over T1 is smooth: a table of a few hundred points replaces millions of exponentials.
        knots = np.geomspace(20.0, 6000.0, 600)
        curve = self.longitudinal(knots) * np.sin(np.radians(self.flip))
        return np.asarray(density * np.interp(t1, knots, curve) * np.exp(-self.echo / t2), dtype=np.float32)


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """Steady-state spoiled gradient echo (SPGR, FLASH, T1-FFE). Times in ms, flip in degrees."""

    repetition: float = 9.0
    echo: float = 3.2
    flip: float = 20.0

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Signal, in units of fully relaxed water (Ernst)."""
        decay, angle = np.exp(-self.repetition / t1), np.radians(self.flip)
        steady = np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay)
        return np.asarray(density * steady * np.exp(-self.echo / t2), dtype=np.float32)


@dataclass(frozen=True)
class SpinEcho:
    """Conventional T1-weighted spin echo. Times in ms."""

    repetition: float = 550.0
    echo: float = 11.0

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Signal, in units of fully relaxed water."""
        return np.asarray(density * (1 - np.exp(-self.repetition / t1)) * np.exp(-self.echo / t2), dtype=np.float32)


@dataclass(frozen=True)
class Flair:
    """Inversion-recovery turbo spin echo that nulls CSF. ``train`` is the duration of the echo train. Times in ms."""

    repetition: float = 9000.0
    inversion: float = 2240.0
    echo: float = 95.0
    train: float = 170.0
    echoes: int = 16

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Signal, in units of fully relaxed water; the echo train leaves no longitudinal magnetisation behind."""
        recovered = 1 - np.exp(-(self.repetition - self.inversion - self.train) / t1)
        inverted = 1 - (1 + INVERSION_EFFICIENCY * recovered) * np.exp(-self.inversion / t1)
        return np.asarray(density * inverted * np.exp(-self.echo / t2), dtype=np.float32)


@dataclass(frozen=True)
class Diffusion:
    """Spin-echo echo-planar imaging with isotropic diffusion weighting (trace). Times in ms."""

    repetition: float = 6500.0
    echo: float = 78.0

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray, adc: FloatArray, b: float) -> FloatArray:
        """Signal at ``b`` s/mm² for an ``adc`` in mm²/s; what has no ADC (moving blood, air) has no signal."""
        recovered = 1 - np.exp(-self.repetition / t1)
        weighted = density * recovered * np.exp(-self.echo / t2 - b * adc)
        return np.asarray(np.where(adc > 0, weighted, 0), dtype=np.float32)


T1Sequence = Mprage | SpoiledGradientEcho | SpinEcho


def _recovery(duration: float, t1: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left = np.exp(-duration / t1)
    return 1 - left, left
