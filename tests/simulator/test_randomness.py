"""Random streams and fields."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.grid import axis_aligned
from simulator.randomness import smooth_field, stream, truncated_normal

GRID = axis_aligned((60, 50, 40), (0, 0, 0))


def test_streams_are_repeatable_and_independent() -> None:
    assert stream(3, "a").random() == stream(3, "a").random()
    assert stream(3, "a").random() != stream(3, "b").random() != stream(4, "b").random()
    with pytest.raises(ValueError, match="negative"):
        stream(-1, "a")


@pytest.mark.parametrize("scale", [4.0, 12.0, 30.0])
def test_a_field_is_standardised_and_as_smooth_as_asked(scale: float) -> None:
    field = smooth_field(stream(1, "f"), GRID, scale)
    assert field.shape == GRID.shape
    assert abs(float(field.mean())) < 0.1
    assert float(field.std()) == pytest.approx(1, abs=0.1)
    # One voxel further, a field of a larger scale has changed less; 3 / scale bounds the slope of the splines.
    for axis in range(3):
        assert np.abs(np.diff(field, axis=axis)).mean() < 3 / scale


def test_a_truncated_factor_stays_within_its_spread() -> None:
    rng = stream(1, "t")
    draws = [truncated_normal(rng, 0.1) for _ in range(500)]
    assert 0.9 <= min(draws) < 0.93 and 1.07 < max(draws) <= 1.1
