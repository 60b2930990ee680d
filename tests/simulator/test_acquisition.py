"""From the true head to native volumes: noise statistics, partial volume, geometry, motion."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from simulator.acquisition import ScanEffects, head_motion, rician, sampled_on, scanner_adc
from simulator.deformation import rotation
from simulator.grid import Grid, axis_aligned
from simulator.protocol import Kind, SeriesPlan, Weighting, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.sequences import Flair

TRUTH = axis_aligned((60, 60, 60), (-29.5, -29.5, -29.5))


def plan_on(grid: Grid, thickness: float) -> SeriesPlan:
    return SeriesPlan(Kind.FLAIR, 3, 0.0, 4.0, Flair(), grid, thickness, "flair")


def test_rician_noise_has_its_moments() -> None:
    rng = stream(1, "noise")
    strong = rician(np.full((40, 60, 60), 1.0, dtype=np.float32), 0.05, rng)
    assert strong.std() == pytest.approx(0.05, rel=0.02)
    assert (strong**2).mean() == pytest.approx(1 + 2 * 0.05**2, rel=1e-3)
    # Without signal the magnitude follows Rayleigh's law.
    background = rician(np.zeros((40, 60, 60), dtype=np.float32), 0.05, rng)
    assert background.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.01)
    assert np.array_equal(rician(np.array([-2.0], dtype=np.float32), 0.0, rng), [2.0])


def test_a_thick_slice_averages_what_it_covers() -> None:
    head = np.zeros(TRUTH.shape, dtype=np.float32)
    head[:30] = 1.0  # everything below z = 0
    grid = Grid.of((10, 10, 5), np.eye(3), (2.0, 2.0, 4.0), np.zeros(3))  # the third slice covers z −2 … 2
    values = sampled_on(head, TRUTH, plan_on(grid, 4.0), np.eye(4))[:, 5, 5]
    assert values == pytest.approx([1, 1, 0.5, 0, 0], abs=0.02)
    # A gap is not excited: slices 2 mm thick, 4 mm apart, miss the edge at z = 1.
    head[:31] = 1.0
    shifted = Grid.of((10, 10, 2), np.eye(3), (2.0, 2.0, 4.0), np.array([0.0, 0.0, 1.0]))
    thin = sampled_on(head, TRUTH, plan_on(shifted, 1.0), np.eye(4))[:, 5, 5]
    assert thin == pytest.approx([1, 0], abs=0.02)


def test_an_oblique_grid_shows_a_point_where_it_is() -> None:
    head = np.zeros(TRUTH.shape, dtype=np.float32)
    head[40, 20, 35] = 1.0
    where = TRUTH.point((35, 20, 40))
    grid = Grid.of((64, 64, 64), rotation(np.array([12.0, -5.0, 8.0])), (1.0, 1.0, 1.0), np.zeros(3))
    values = sampled_on(head, TRUTH, plan_on(grid, 1.0), np.eye(4))
    index = np.argwhere(values > 0)[:, ::-1]
    centre = np.average([grid.point(i) for i in index], axis=0, weights=values[values > 0])
    assert np.allclose(centre, where, atol=0.1)


def test_the_first_series_does_not_move_and_the_others_are_rigid() -> None:
    assert np.array_equal(head_motion(5, Kind.T1, ScanEffects()), np.eye(4))
    moved = head_motion(5, Kind.FULL_DOSE, ScanEffects())
    assert np.allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3))
    assert 0 < np.linalg.norm(moved[:3, 3]) < 4
    assert np.array_equal(head_motion(5, Kind.DWI, ScanEffects(motion=0)), np.eye(4))


def test_the_scanners_adc_is_the_logarithm() -> None:
    first = np.array([[[1.0, 1.0, 0.05]]], dtype=np.float32)
    last = np.array([[[np.exp(-0.8), np.exp(-3.0), 0.05]]], dtype=np.float32)
    adc = scanner_adc({Weighting(0): first, Weighting(1000): last})
    assert adc.ravel() == pytest.approx([0.8e-3, 3e-3, 0.0], rel=1e-5)


@pytest.mark.parametrize(("b_values", "directions"), [((0, 500, 1000), 0), ((0, 1000), 3), ((0, 200, 700, 1500), 3)])
def test_the_scanners_adc_fits_every_volume(b_values: tuple[int, ...], directions: int) -> None:
    diffusion = next(p for p in examination(Scanner(b_values=b_values, directions=directions), stream(1, "examination"))
                     if p.kind is Kind.DWI)  # fmt: skip
    truth = np.linspace(0.3e-3, 3e-3, 30, dtype=np.float32).reshape(1, 5, 6)
    volumes = {weighting: np.exp(-weighting.b * truth) for weighting in diffusion.weightings}
    assert np.allclose(scanner_adc(volumes), truth, rtol=1e-3)
    # As a straight line through all logarithms, whatever lies on none of them.
    rng = stream(2, "noise")
    noisy = {weighting: volume * rng.uniform(0.9, 1.1, volume.shape) for weighting, volume in volumes.items()}
    b = [weighting.b for weighting in noisy]
    lines = np.polyfit(b, np.log([volume.ravel() for volume in noisy.values()]), 1)
    assert np.allclose(scanner_adc(noisy).ravel(), np.clip(-lines[0], 0, 4e-3), rtol=1e-3)


def test_single_directions_are_orthogonal_and_named_like_the_trace_is() -> None:
    plans = examination(Scanner(b_values=(0, 500, 1000), directions=3), stream(4, "examination"))
    diffusion = next(p for p in plans if p.kind is Kind.DWI)
    assert [w.b for w in diffusion.weightings] == [0, 500, 500, 500, 1000, 1000, 1000]
    assert diffusion.weightings[0].direction is None
    gradients = np.array([w.direction for w in diffusion.weightings[1:4]])
    assert np.allclose(gradients @ gradients.T, np.eye(3))
    assert diffusion.description == "ep2d_diff_tra_b0_b500_b1000"
    assert [p.weightings for p in plans if p.kind is not Kind.DWI] == [(Weighting(0),)] * 4


@pytest.mark.parametrize("seed", range(5))
def test_the_protocol_keeps_the_papers_order(seed: int) -> None:
    plans = examination(Scanner(scanner_adc=True), stream(seed, "examination"))
    assert [p.kind for p in plans] == [Kind.T1, Kind.FLAIR, Kind.DWI, Kind.ADC, Kind.LOW_DOSE, Kind.FULL_DOSE]
    low, full = plans[-2], plans[-1]
    assert [i.dose for i in low.injections] == [0.025] and [i.dose for i in full.injections] == [0.025, 0.075]
    assert 4 < low.minute - low.injections[0].minute < 6 and 4 < full.minute - full.injections[1].minute < 6
    ordered = [p for p in plans if p.kind is not Kind.ADC]
    for one, following in pairwise(ordered):
        assert one.start + one.duration < following.start
    assert full.injections[1].minute > low.start + low.duration


def test_impossible_scanners_are_refused() -> None:
    with pytest.raises(ValueError, match="mosaics are Siemens' own"):
        Scanner(vendor=Vendor.GE, layout=Layout.MOSAIC)
    with pytest.raises(ValueError, match=r"choose 1.5 or 3"):
        Scanner(field_tesla=7.0)
    for wrong in ((), (0,), (500, 1000), (0, 1000, 500), (0, 9000)):
        with pytest.raises(ValueError, match="must ascend from 0"):
            Scanner(b_values=wrong)
    with pytest.raises(ValueError, match="choose 3, or 0 for the trace"):
        Scanner(directions=2)
    with pytest.raises(ValueError, match="choose mprage or spgr"):
        Scanner(t1_sequence="fiesta")
    with pytest.raises(ValueError, match=r"0.01 to 0.05 is usual"):
        replace(Scanner(), noise=2.0)
