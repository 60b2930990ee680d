"""A perfectly told uncertainty is found perfect, one that is off by a factor is put right."""

import numpy as np
import pytest

from model.calibration import calibrate, reliability

SHAPE = (40, 40, 40)
BRAIN = np.ones(SHAPE, bool)


def subject(seed, told_times=1.0):
    random = np.random.default_rng(seed)
    sd = 10 ** random.uniform(-3, -1.5, SHAPE)
    target = np.full(SHAPE, 0.5)
    return reliability(target + sd * random.normal(size=SHAPE), target, (sd * told_times).astype(np.float32), BRAIN)


@pytest.mark.parametrize("told_times", [1.0, 0.05, 3.0])
def test_gaussian_errors(told_times):
    result = calibrate([subject(seed, told_times) for seed in range(2)], [subject(5, told_times)])
    assert result.factor == pytest.approx(1 / told_times, rel=0.02)
    assert result.within_one == pytest.approx(0.6827, abs=0.01)
    assert result.within_two == pytest.approx(0.9545, abs=0.01)
    assert result.ence < 0.05


def test_the_factor_comes_from_the_others_alone():
    result = calibrate([subject(0)], [subject(1, told_times=0.5)])
    assert result.factor == pytest.approx(1.0, rel=0.02)
    assert result.within_one == pytest.approx(0.383, abs=0.01)  # half a deviation
    assert result.ence == pytest.approx(1.0, abs=0.1)


def test_an_uncertainty_that_says_nothing_is_found_out():
    random = np.random.default_rng(0)
    sd = 10 ** random.uniform(-3, -1.5, SHAPE)
    target = np.full(SHAPE, 0.5)
    shuffled = random.permutation(sd.ravel()).reshape(SHAPE)
    blind = reliability(target + sd * random.normal(size=SHAPE), target, shuffled.astype(np.float32), BRAIN)
    assert calibrate([blind], [blind]).ence > 0.5
