"""Grids: voxel to millimetre and back, refinement, resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deformation import rotation
from simulator.grid import Grid, affine_transform, axis_aligned, resample, to_image

angles = st.floats(-30, 30)


@given(angles, angles, angles, st.floats(0.5, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_grid_gives_back_what_it_was_made_of(a: float, b: float, c: float, step: float, left_handed: bool) -> None:
    directions = rotation(np.array([a, b, c])) @ np.diag([1, 1, -1 if left_handed else 1])
    centre = np.array([3.0, -7.0, 11.0])
    grid = Grid.of((9, 8, 7), directions, (0.9, 1.1, step), centre)
    assert grid.spacing == pytest.approx((0.9, 1.1, step))
    assert np.allclose(grid.directions, directions)
    assert np.allclose(grid.centre, centre)
    assert np.allclose(grid.origin + grid.matrix[:3, :3] @ [8, 7, 6], grid.point((8, 7, 6)))


def test_refined_cells_average_to_their_voxel() -> None:
    grid = axis_aligned((6, 5, 4), (1.0, 2.0, 3.0), 2.0)
    fine = grid.refined((2, 1, 4))
    assert fine.shape == (16, 5, 12)
    cells = [fine.point((i, 3, k)) for i in (4, 5) for k in (8, 9, 10, 11)]
    assert np.allclose(np.mean(cells, axis=0), grid.point((2, 3, 2)))


def test_resampling_follows_a_ramp_and_a_transform() -> None:
    grid = axis_aligned((20, 20, 20), (-10.0, -10.0, -10.0))
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32) - 10, grid.shape).copy()  # value = x in mm
    target = Grid.of((5, 5, 5), rotation(np.array([10.0, 5.0, -8.0])), (1.5, 1.5, 1.5), np.zeros(3))
    move = np.eye(4)
    move[:3, 3] = [2.0, 0.0, 0.0]
    values = resample(ramp, grid, target, affine_transform(move))
    assert values[1, 2, 3] == pytest.approx(target.point((3, 2, 1))[0] + 2, abs=1e-4)


def test_an_array_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        to_image(np.zeros((3, 3, 3)), axis_aligned((4, 3, 3), (0, 0, 0)))
