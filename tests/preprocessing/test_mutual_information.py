"""The metric against finite differences, and what it must say of images that are alike, unlike and apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from preprocessing.mutual_information import LinearInterpolator, MutualInformation, Sample

RANDOM = np.random.default_rng(0)
IMAGE = ndimage.gaussian_filter(RANDOM.normal(size=(16, 24, 32)), 2.0) * 100
POINTS = RANDOM.uniform((-2, -2, -2), (33, 25, 17), (4000, 3))


def metric(noise: float = 0.3, image: np.ndarray = IMAGE) -> MutualInformation:
    """An image and a noisy square of it, in double precision; a fifth of the points lie outside."""
    points, moving = torch.from_numpy(POINTS), torch.from_numpy(image)
    values = LinearInterpolator(torch.from_numpy(IMAGE)).values(points.T[None])[0]
    disturbed = values.square() + noise * torch.from_numpy(np.random.default_rng(1).normal(size=len(POINTS)))
    return MutualInformation(Sample(points, disturbed), moving, np.eye(4))


def test_gradient_is_that_of_finite_differences() -> None:
    similarity = metric()
    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(2).normal(0, 0.02, (3, 4))
    _, gradient = similarity.value_and_gradient(matrix)
    for row in range(3):
        for column in range(4):
            step = np.zeros((4, 4))
            step[row, column] = 1e-7
            above, below = similarity.values(np.stack([matrix + step, matrix - step]))
            assert gradient[row, column] == pytest.approx((above - below) / 2e-7, rel=1e-4, abs=1e-5)


def test_many_poses_at_once_give_what_each_gives_alone() -> None:
    similarity = metric()
    matrices = np.eye(4) + np.pad(np.random.default_rng(3).normal(0, 0.05, (5, 3, 4)), ((0, 0), (0, 1), (0, 0)))
    alone = [similarity.value_and_gradient(matrix)[0] for matrix in matrices]
    np.testing.assert_allclose(similarity.values(matrices), alone, rtol=1e-9)


def test_aligned_is_most_alike_and_contrast_does_not_matter() -> None:
    similarity = metric()
    shifts = np.repeat(np.eye(4)[None], 5, axis=0)
    shifts[:, 0, 3] = (0, -2, -1, 1, 2)
    values = similarity.values(shifts)
    assert values.argmax() == 0
    assert metric(image=-3 * IMAGE).values(shifts[:1])[0] == pytest.approx(values[0], abs=0.02)


def test_images_apart_tell_nothing() -> None:
    away = np.eye(4)
    away[0, 3] = 500
    value, gradient = metric().value_and_gradient(away)
    assert value == 1
    assert not gradient.any()
    assert metric().overlap(away[None])[0] == 0


def test_constant_image_tells_nothing() -> None:
    value, gradient = metric(image=np.full_like(IMAGE, 7.0)).value_and_gradient(np.eye(4))
    assert value == pytest.approx(1)
    assert np.isfinite(gradient).all()


def test_interpolator_is_exact_for_linear_fields_and_continues_outside() -> None:
    k, j, i = np.indices((3, 4, 5)).astype(float)
    linear = LinearInterpolator(torch.from_numpy(i + 10 * j + 100 * k))
    index = torch.tensor([[[0.25, 4.0, 9.0], [1.5, 3.0, 1.0], [0.5, 2.0, -3.0]]], dtype=torch.float64)
    values, slopes = linear.values_and_slopes(index)
    assert values[0].tolist() == [65.25, 234.0, 14.0]
    assert slopes[0, :, 0].tolist() == [1.0, 10.0, 100.0]
    assert slopes[0, :, 2].tolist() == [0.0, 10.0, 0.0]


def test_image_of_one_slice() -> None:
    flat = LinearInterpolator(torch.arange(12.0).reshape(1, 3, 4))
    assert flat.values(torch.tensor([[[1.5], [1.0], [0.0]]])).item() == 5.5
