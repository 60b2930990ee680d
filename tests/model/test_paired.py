"""Differences within subjects: by hand, against SciPy, by simulation, and what is called noise."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from model.contenders import Nothing
from model.crossvalidate import CrossValidation
from model.judge import Judgement
from model.metrics import Scores
from model.paired import Difference, paired_table
from model.radiology import Appearance, Volumes


def cross_validation(name, l2, subjects="abcd"):
    looks, sizes = Appearance(math.nan, math.nan, math.nan), Volumes(0.0, 0.0, math.nan)
    judged = tuple(
        Judgement(one, scores := Scores(value, math.nan, 30.0, 0.9), scores, None, looks, looks, sizes, None)
        for one, value in zip(subjects, l2, strict=True)
    )
    return CrossValidation(Nothing(name), (judged,), (Path(),))


def test_the_interval_is_that_of_the_paired_t_test():
    random = np.random.default_rng(0)
    theirs = random.normal(10, 5, 12)
    ours = theirs + random.normal(0.3, 0.2, 12)
    found = Difference.of(ours, theirs, range(12))
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert not found.is_noise and Difference.of(theirs, theirs + random.normal(0, 1, 12), range(12)).is_noise


def test_subjects_of_one_head_that_say_the_same_say_it_once():
    """The interval is that over heads, however often each of them was simulated."""
    random = np.random.default_rng(1)
    ours, theirs = random.normal(0.5, 1, 6), np.zeros(6)
    alone = Difference.of(ours, theirs, range(6))
    thrice = Difference.of(np.repeat(ours, 3), np.repeat(theirs, 3), np.repeat(range(6), 3))
    assert (thrice.mean, thrice.low, thrice.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_the_interval_holds_the_truth_as_often_as_it_says_where_heads_differ():
    """95 % of 2000 samples of 12 heads with 1 to 4 subjects each; as if all were heads of their own, 80 % would."""
    random = np.random.default_rng(2)
    heads = np.repeat(range(12), [1, 2, 3, 4] * 3)
    each, alone = [], []
    for _ in range(2000):
        ours = 0.3 + random.normal(0, 1, 12)[heads] + random.normal(0, 0.5, heads.size)
        for groups, held in ((heads, each), (range(heads.size), alone)):
            found = Difference.of(ours, np.zeros(heads.size), groups)
            held.append(found.low <= 0.3 <= found.high)
    assert 0.92 < np.mean(each) < 0.97
    assert np.mean(alone) < 0.85


def test_subjects_without_a_figure_do_not_count_and_few_give_none():
    assert Difference.of([1, 2, 3, math.nan], [0, 0, 0, 0], range(4)) == Difference.of([1, 2, 3], [0, 0, 0], range(3))
    assert Difference.of([1, 2, math.nan], [0, 0, 0], range(3)) is None
    assert Difference.of([1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 1, 1]) is None


def test_a_small_difference_that_every_subject_shows_is_no_noise_and_a_large_uneven_one_is():
    first = cross_validation("first", [1e-5, 9e-5, 2e-5, 7e-5])
    steady = cross_validation("steady", [0.8e-5, 8.9e-5, 1.9e-5, 6.8e-5])
    uneven = cross_validation("uneven", [9e-5, 1e-5, 1e-5, 8e-5])
    text = paired_table([first, steady, uneven], [{one} for one in "abcd"]).markdown()
    assert "| steady | -0.2 [-0.2, -0.1] | – | +0.00" in text
    assert "| uneven | +0.0 [-10.5, +10.5] noise |" in text
    with pytest.raises(ValueError, match="different subjects"):
        paired_table([first, cross_validation("other", [1, 1, 1, 1], "abce")], [{one} for one in "abcd"])
