"""Signal equations against Bloch simulation, textbook limits, and the ratios that the physics table promises."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.sequences import (
    INVERSION_EFFICIENCY,
    Diffusion,
    Flair,
    Mprage,
    SpinEcho,
    SpoiledGradientEcho,
    T1Sequence,
    relaxed,
)
from simulator.tissue import Tissue, tissue_table

TABLE = tissue_table(3.0)


def of(sequence: T1Sequence | Flair, tissue: Tissue, agent: float = 0.0) -> float:
    one = slice(tissue, tissue + 1)
    t1 = relaxed(TABLE.t1[one], agent, 3.4)
    return float(sequence.signal(t1, TABLE.t2[one], TABLE.density[one])[0])


@pytest.mark.parametrize("t1", [250.0, 838.0, 1607.0, 3900.0])
def test_mprage_equals_a_pulse_by_pulse_simulation(t1: float) -> None:
    sequence = Mprage()

    def recover(m: float, time: float) -> float:
        return 1 - (1 - m) * float(np.exp(-time / t1))

    before = sequence.inversion - sequence.echoes / 2 * sequence.echo_spacing
    after = sequence.repetition - before - sequence.echoes * sequence.echo_spacing
    m, centre = 1.0, 0.0
    for _ in range(12):  # cycles until the steady state
        m = recover(-INVERSION_EFFICIENCY * m, before)
        for pulse in range(sequence.echoes):
            if pulse == sequence.echoes // 2:
                centre = m
            m = recover(m * np.cos(np.radians(sequence.flip)), sequence.echo_spacing)
        m = recover(m, after)
    assert sequence.longitudinal(np.array([t1]))[0] == pytest.approx(centre, abs=1e-5)


def test_rim_to_white_matter_at_three_tesla() -> None:
    white = of(Mprage(), Tissue.WHITE)
    for agent, ratio in ((0.0, 0.68), (0.1, 1.0), (0.4, 1.8)):
        assert of(Mprage(), Tissue.RIM, agent) / white == pytest.approx(ratio, rel=0.05)


def test_order_of_tissues_on_t1_and_flair() -> None:
    for sequence in (Mprage(), SpoiledGradientEcho(), SpinEcho()):
        signals = [of(sequence, t) for t in (Tissue.CSF, Tissue.GREY, Tissue.WHITE, Tissue.FAT)]
        assert signals == sorted(signals)
    white = of(Flair(), Tissue.WHITE)
    assert abs(of(Flair(), Tissue.CSF)) < 0.1 * white
    assert of(Flair(), Tissue.OEDEMA) > 1.35 * white


def test_spoiled_gradient_echo_at_the_ernst_angle() -> None:
    t1, repetition = np.array([900.0], dtype=np.float32), 10.0
    flip = float(np.degrees(np.arccos(np.exp(-repetition / 900.0))))
    one = np.ones(1, dtype=np.float32)
    best = SpoiledGradientEcho(repetition, 0.0, flip).signal(t1, one * 80, one)[0]
    decay = np.exp(-repetition / 900.0)
    assert best == pytest.approx(np.sqrt((1 - decay) / (1 + decay)), rel=1e-4)
    assert best > SpoiledGradientEcho(repetition, 0.0, flip + 3).signal(t1, one * 80, one)[0]


def test_diffusion_decays_with_b_and_moving_blood_is_dark() -> None:
    one = np.ones(2, dtype=np.float32)
    adc = np.array([0.8e-3, 0.0], dtype=np.float32)
    first, last = (Diffusion().signal(one * 900, one * 80, one, adc, b) for b in (0.0, 1000.0))
    assert np.log(first[0] / last[0]) / 1000 == pytest.approx(0.8e-3, rel=1e-4)
    assert first[1] == last[1] == 0


def test_relaxation_rates_add() -> None:
    t1 = relaxed(np.array([1000.0], dtype=np.float32), 0.5, 4.0)
    assert 1 / t1[0] == pytest.approx(0.001 + 0.002, rel=1e-5)


def test_a_train_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Mprage(inversion=300.0).longitudinal(np.array([900.0]))
