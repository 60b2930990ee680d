"""Where the contrast agent goes after an injection: an arterial input and the extended Tofts model.

The input is Parker's population average (MRM 56:993, 2006) for 0.1 mmol/kg, scaled by dose; the tissue takes up
C(t) = vp Cp(t) + Ktrans ∫ Cp(τ) exp(−(Ktrans/ve)(t − τ)) dτ (Tofts 1997, extended). Beyond the six minutes that Parker
measured, his washout continues [A].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.tissue import Tissue

FULL_DOSE = 0.1  # mmol/kg, the dose of Parker's patients and the standard one
HAEMATOCRIT = 0.42
STEP_MINUTES = 1 / 60

# Relaxivity r1 in whole blood at 1.5 and 3 T, L/mmol/s (Shen et al., Invest Radiol 50:330, 2015).
RELAXIVITY = {"gadoterate": (3.9, 3.4), "gadobutrol": (4.6, 4.5)}

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Injection:
    """``dose`` in mmol/kg given at ``minute`` of the examination."""

    minute: float
    dose: float


@dataclass(frozen=True)
class Exchange:
    """``transfer`` Ktrans in 1/min; ``extravascular`` ve and ``plasma`` vp as volume fractions."""

    transfer: float
    extravascular: float
    plasma: float

    def scaled(self, transfer: float) -> Exchange:
        """The same tissue with a leakier or tighter barrier."""
        return replace(self, transfer=self.transfer * transfer)


# Chosen so that the concentration 5 min after the full dose lies in the range of the literature: white .010–.015, grey
# .02, blood .45, dura .2–.4 [A], choroid plexus and pituitary .3–.5 [A], tumour .19–.28, meningioma .47, oedema
# .013–.020, necrosis .05, muscle .1 [A] mmol/L. vp of grey and white matter as published (.03, .011); tumour Ktrans
# .05–.15 /min and ve .2–.4 [A], drawn per lesion. The small Ktrans of brain tissue is leakage and agent in CSF [A].
EXCHANGE: dict[Tissue, Exchange] = {
    Tissue.WHITE: Exchange(0.0005, 0.1, 0.011),
    Tissue.GREY: Exchange(0.0, 0.1, 0.03),
    Tissue.PUTAMEN: Exchange(0.0, 0.1, 0.03),
    Tissue.CAUDATE: Exchange(0.0, 0.1, 0.03),
    Tissue.DEEP_GREY: Exchange(0.0, 0.1, 0.022),
    Tissue.MUSCLE: Exchange(0.03, 0.12, 0.01),
    Tissue.SKIN: Exchange(0.03, 0.2, 0.02),
    Tissue.DURA: Exchange(0.09, 0.38, 0.04),
    Tissue.CHOROID: Exchange(0.2, 0.4, 0.10),
    Tissue.PITUITARY: Exchange(0.2, 0.4, 0.10),
    Tissue.MUCOSA: Exchange(0.15, 0.4, 0.08),
    Tissue.RIM: Exchange(0.09, 0.25, 0.01),
    Tissue.SOLID: Exchange(0.09, 0.25, 0.01),
    Tissue.MENINGIOMA: Exchange(0.22, 0.38, 0.10),
    Tissue.OEDEMA: Exchange(0.001, 0.1, 0.014),
    Tissue.NECROSIS: Exchange(0.0075, 0.5, 0.0),
    Tissue.LOW_GRADE: Exchange(0.0005, 0.1, 0.014),
    Tissue.WHITE_LESION: Exchange(0.0005, 0.1, 0.011),
}

TUMOUR_TRANSFER = (0.05, 0.15)
TUMOUR_EXTRAVASCULAR = (0.2, 0.4)
TUMOUR_CONCENTRATION = (0.19, 0.28)  # mmol/L 5 min after the full dose


def blood(minutes: NDArray[np.float64], dose: float = FULL_DOSE) -> Curve:
    """Whole-blood concentration (mmol/L) ``minutes`` after the start of an injection of ``dose`` mmol/kg."""
    curve = np.zeros_like(minutes, dtype=np.float64)
    for area, peak, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132)):
        curve += area / (width * np.sqrt(2 * np.pi)) * np.exp(-((minutes - peak) ** 2) / (2 * width**2))
    # The sigmoid is clipped far below zero only to keep the exponential finite.
    sigmoid = 1 + np.exp(np.clip(-38.078 * (minutes - 0.483), -60, 60))
    curve += 1.05 * np.exp(-0.1685 * minutes) / sigmoid
    return np.where(minutes >= 0, curve, 0.0) * (dose / FULL_DOSE)


def blood_at(minute: float, injections: tuple[Injection, ...]) -> float:
    """Whole-blood concentration (mmol/L) at one minute of the examination."""
    return float(sum(blood(np.array([minute - one.minute]), one.dose)[0] for one in injections))


def tissue_at(exchange: Exchange, minute: float, injections: tuple[Injection, ...]) -> float:
    """Concentration (mmol/L) in a tissue at one minute of the examination: extended Tofts over all injections."""
    plasma_now = blood_at(minute, injections) / (1 - HAEMATOCRIT)
    if exchange.transfer == 0:
        return exchange.plasma * plasma_now
    taken_up = 0.0
    for one in injections:
        if minute > one.minute:
            since = np.arange(0, minute - one.minute, STEP_MINUTES)
            remaining = np.exp(-exchange.transfer / exchange.extravascular * (minute - one.minute - since))
            plasma = blood(since, one.dose) / (1 - HAEMATOCRIT)
            taken_up += float(np.trapezoid(plasma * remaining, since))
    return exchange.plasma * plasma_now + exchange.transfer * taken_up


def draw_tumour(rng: np.random.Generator) -> Exchange:
    """A tumour's exchange: Ktrans and ve from their published ranges, and together a published concentration."""
    low, high = TUMOUR_CONCENTRATION
    while True:
        drawn = Exchange(rng.uniform(*TUMOUR_TRANSFER), rng.uniform(*TUMOUR_EXTRAVASCULAR), 0.01)
        if low <= tissue_at(drawn, 5.0, (Injection(0.0, FULL_DOSE),)) <= high:
            return drawn


def concentrations(minute: float, injections: tuple[Injection, ...]) -> NDArray[np.float32]:
    """Concentration (mmol/L) in every tissue, indexed by :class:`Tissue`."""
    table = np.zeros(len(Tissue), dtype=np.float32)
    for tissue, exchange in EXCHANGE.items():
        table[tissue] = tissue_at(exchange, minute, injections)
    table[[Tissue.VEIN, Tissue.ARTERY]] = blood_at(minute, injections)
    return table


def relaxivity(agent: str, field_tesla: float) -> float:
    """r1 in L/mmol/s. Raises ``ValueError`` for an agent without a value."""
    if agent not in RELAXIVITY:
        raise ValueError(f"no relaxivity for {agent!r}; known agents: {', '.join(sorted(RELAXIVITY))}")
    low, high = RELAXIVITY[agent]
    return high if field_tesla == 3.0 else low
