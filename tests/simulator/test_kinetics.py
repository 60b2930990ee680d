"""Contrast kinetics against the published numbers and against an integral done another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from simulator.kinetics import (
    HAEMATOCRIT,
    Exchange,
    Injection,
    blood,
    concentrations,
    draw_tumour,
    relaxivity,
    tissue_at,
)
from simulator.randomness import stream
from simulator.tissue import Tissue

FULL = (Injection(0.0, 0.1),)
# Concentration at 5 min after the full dose, mmol/L, as the literature has it.
RANGES = {
    Tissue.WHITE: (0.010, 0.015), Tissue.GREY: (0.017, 0.025), Tissue.VEIN: (0.44, 0.46), Tissue.CSF: (0, 0),
    Tissue.DURA: (0.2, 0.4), Tissue.CHOROID: (0.3, 0.5), Tissue.PITUITARY: (0.3, 0.5), Tissue.RIM: (0.19, 0.28),
    Tissue.SOLID: (0.19, 0.28), Tissue.MENINGIOMA: (0.44, 0.5), Tissue.OEDEMA: (0.013, 0.020),
    Tissue.NECROSIS: (0.04, 0.06), Tissue.MUSCLE: (0.08, 0.12), Tissue.FAT: (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("tissue", RANGES)
def test_full_dose_reaches_the_published_concentration(tissue: Tissue) -> None:
    low, high = RANGES[tissue]
    assert low - 1e-6 <= concentrations(5.0, FULL)[tissue] <= high + 1e-6


def test_the_arterial_input_is_parkers() -> None:
    minutes = np.linspace(0, 6, 3601)
    curve = blood(minutes)
    # Parker 2006, figure 2: a first pass of about 6 mmol/L before 15 s, recirculation, then washout.
    assert 5.5 < curve.max() < 6.5
    assert 0.15 < minutes[curve.argmax()] < 0.2
    assert curve[0] == pytest.approx(0, abs=0.1)
    assert curve[-1] == pytest.approx(1.05 * np.exp(-0.1685 * 6), rel=1e-6)
    assert np.allclose(blood(minutes, 0.025), curve / 4)


def test_extended_tofts_equals_its_integral() -> None:
    exchange, minute = Exchange(0.12, 0.3, 0.04), 4.0
    rate = exchange.transfer / exchange.extravascular

    def integrand(t: float) -> float:
        return float(blood(np.array([t]))[0]) * np.exp(-rate * (minute - t)) / (1 - HAEMATOCRIT)

    taken_up = sum(quad(integrand, a, b, limit=200)[0] for a, b in ((0, 0.3), (0.3, 0.8), (0.8, minute)))
    expected = exchange.plasma * blood(np.array([minute]))[0] / (1 - HAEMATOCRIT) + exchange.transfer * taken_up
    assert tissue_at(exchange, minute, FULL) == pytest.approx(expected, rel=0.01)


def test_two_injections_add_up_and_nothing_comes_before_them() -> None:
    first, second = Injection(2.0, 0.025), Injection(10.0, 0.075)
    both = concentrations(14.0, (first, second))
    assert np.allclose(both, concentrations(14.0, (first,)) + concentrations(14.0, (second,)), atol=1e-7)
    assert not concentrations(1.0, (first, second)).any()


def test_low_dose_is_about_thirty_percent_of_full_and_not_a_fixed_share() -> None:
    given = (Injection(0.0, 0.025), Injection(9.0, 0.075))
    low, full = concentrations(5.0, given[:1]), concentrations(14.0, given)
    shares = {t: float(low[t] / full[t]) for t in (Tissue.RIM, Tissue.MENINGIOMA, Tissue.NECROSIS, Tissue.VEIN)}
    assert 0.27 < shares[Tissue.RIM] < 0.33
    assert max(shares.values()) - min(shares.values()) > 0.03


def test_drawn_tumours_keep_to_the_published_ranges() -> None:
    rng = stream(0, "tumours")
    for _ in range(20):
        drawn = draw_tumour(rng)
        assert 0.05 <= drawn.transfer <= 0.15 and 0.2 <= drawn.extravascular <= 0.4
        assert 0.19 <= tissue_at(drawn, 5.0, FULL) <= 0.28


def test_an_agent_without_relaxivity_is_named() -> None:
    assert relaxivity("gadobutrol", 1.5) == 4.6
    with pytest.raises(ValueError, match=r"gadolinite.*known agents: gadobutrol, gadoterate"):
        relaxivity("gadolinite", 3.0)
