"""The optimiser on functions whose minimum is known."""

from __future__ import annotations

import numpy as np

from preprocessing.quasi_newton import minimum


def test_skewed_bowl() -> None:
    random = np.random.default_rng(0)
    factor = random.normal(size=(6, 6))
    bowl, bottom = factor @ factor.T + 0.1 * np.eye(6), random.normal(0, 5, 6)
    found = minimum(
        lambda x: (float((x - bottom) @ bowl @ (x - bottom)) / 2, bowl @ (x - bottom)), np.zeros(6), 2.0, 1e-9
    )
    np.testing.assert_allclose(found, bottom, atol=1e-5)


def test_start_at_the_minimum_stays() -> None:
    assert not minimum(lambda x: (float(x @ x), 2 * x), np.zeros(3), 1.0, 1e-6).any()


def test_no_step_is_longer_than_twice_the_first() -> None:
    seen = []

    def steep(x: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(x)
        return float(1000 * x @ x), 2000 * x

    minimum(steep, np.full(3, 50.0), 0.5, 1e-6)
    assert np.linalg.norm(np.diff(seen, axis=0), axis=1).max() <= 1.0 + 1e-9
