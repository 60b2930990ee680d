"""The intensity scale and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.normalise import IntensityScale, NormalisationError, scale_of

finite = st.floats(-1e4, 1e4)


@given(mean=finite, sd=st.floats(1e-3, 1e4), z=st.lists(st.floats(-2.999, 6.999), min_size=1))
def test_inverse_is_exact_inside_the_clip_limits(mean: float, sd: float, z: list[float]) -> None:
    scale = IntensityScale(mean, sd)
    values = mean + sd * np.asarray(z)
    back = scale.from_unit(scale.to_unit(values))
    np.testing.assert_allclose(back, values, atol=2e-6 * (10 * sd + abs(mean)))


@given(mean=finite, sd=st.floats(1e-3, 1e4), unit=st.lists(st.floats(0, 1, width=32), min_size=1))
def test_unit_values_come_back(mean: float, sd: float, unit: list[float]) -> None:
    scale = IntensityScale(mean, sd)
    tolerance = 2e-7 * (1 + (10 * sd + abs(mean)) / (10 * sd))
    np.testing.assert_allclose(scale.to_unit(scale.from_unit(np.asarray(unit))), unit, atol=tolerance)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_result_is_always_within_zero_and_one(values: list[float]) -> None:
    unit = IntensityScale(100.0, 20.0).to_unit(np.asarray(values))
    assert unit.dtype == np.float32
    assert (unit >= 0).all()
    assert (unit <= 1).all()


def test_bright_enhancement_survives() -> None:
    scale = IntensityScale(100.0, 20.0)
    unit = scale.to_unit(np.asarray([40.0, 100.0, 220.0, 240.0, 300.0]))
    np.testing.assert_allclose(unit, [0.0, 0.3, 0.9, 1.0, 1.0], atol=1e-6)


def test_statistics_come_from_the_brain_alone() -> None:
    array = np.array([[1.0, 3.0, 900.0]])
    scale = scale_of(array, np.array([[True, True, False]]))
    assert (scale.mean, scale.sd) == (2.0, 1.0)


@given(gain=st.floats(1e-3, 1e3), offset=st.floats(-100, 100), seed=st.integers(0, 2**31))
def test_gain_and_offset_of_the_receiver_do_not_matter(gain: float, offset: float, seed: int) -> None:
    array = np.random.default_rng(seed).gamma(4.0, 25.0, (5, 6, 7))
    brain = array > 40
    expected = scale_of(array, brain).to_unit(array)
    changed = array * gain + offset * gain
    np.testing.assert_allclose(scale_of(changed, brain).to_unit(changed), expected, atol=1e-6)


def test_same_scale_every_time_and_whatever_lies_outside_the_brain() -> None:
    array = np.random.default_rng(7).normal(100, 20, (40, 50, 60)).astype(np.float32)
    brain = array > 80
    elsewhere = np.where(brain, array, np.nan)
    assert scale_of(array, brain) == scale_of(array, brain) == scale_of(elsewhere, brain)


@pytest.mark.parametrize(
    ("array", "brain", "reason"),
    [([1.0, 2.0], [False, False], "covers no voxel"), ([5.0, 5.0], [True, True], "varying"),
     ([1.0, np.nan], [True, True], "finite")],
)  # fmt: skip
def test_no_scale(array: list[float], brain: list[bool], reason: str) -> None:
    with pytest.raises(NormalisationError, match=reason):
        scale_of(np.asarray(array), np.asarray(brain))


def test_limits_in_the_wrong_order() -> None:
    with pytest.raises(NormalisationError, match="below"):
        IntensityScale(0.0, 1.0, 3.0, -3.0)
