"""Rotations and their derivatives, the zero parameters, and matrices there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.pose import Affine, Model, Rigid, rotation, rotation_slopes
from preprocessing.resample import inverse

CENTRE = np.array([5.0, -20.0, 40.0])
vectors = st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3).map(np.asarray)
shifts = st.lists(st.floats(-50, 50), min_size=3, max_size=3).map(np.asarray)


@given(turn=vectors)
def test_rotation_is_one(turn: np.ndarray) -> None:
    matrix = rotation(turn)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(rotation(-turn), matrix.T, atol=1e-12)
    np.testing.assert_allclose(matrix @ turn, turn, atol=1e-12)


@given(turn=vectors)
def test_slopes_of_a_rotation_are_those_of_finite_differences(turn: np.ndarray) -> None:
    for axis, slope in zip(np.eye(3), rotation_slopes(turn), strict=True):
        numeric = (rotation(turn + 1e-5 * axis) - rotation(turn - 1e-5 * axis)) / 2e-5
        np.testing.assert_allclose(slope, numeric, atol=2e-6)


@pytest.mark.parametrize(("model", "count"), [(Rigid(CENTRE), 6), (Affine(CENTRE), 12)])
def test_zero_is_the_identity(model: Model, count: int) -> None:
    np.testing.assert_allclose(model.matrix(np.zeros(count)), np.eye(4), atol=1e-12)


@pytest.mark.parametrize(("model", "count"), [(Rigid(CENTRE), 6), (Affine(CENTRE), 12)])
def test_gradient_by_the_parameters(model: Model, count: int) -> None:
    random = np.random.default_rng(0)
    at, weights = random.normal(0, 5, count), random.normal(0, 1, (3, 4))
    pulled = model.pulled_back(at, weights)
    for axis, slope in zip(np.eye(count), pulled, strict=True):
        change = (model.matrix(at + 1e-5 * axis) - model.matrix(at - 1e-5 * axis))[:3] / 2e-5
        assert slope == pytest.approx(float((weights * change).sum()), abs=1e-5)


@given(turn=vectors, shift=shifts, other=vectors)
def test_there_and_back_again(turn: np.ndarray, shift: np.ndarray, other: np.ndarray) -> None:
    rigid, affine = Rigid(CENTRE), Affine(CENTRE)
    stretched = affine.matrix(affine.parameters(1.1 * rotation(other), -shift))
    there = rigid.matrix(rigid.parameters(turn, shift)) @ stretched
    np.testing.assert_allclose(there @ inverse(there), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(inverse(inverse(there)), there, atol=1e-9)
