"""What a step sees depends on the seed and the step alone; flips and crops do what they say."""

import numpy as np
import pytest
import torch

from model.sampling import Example, draw, flip, load

from .tiny import tiny_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny_cohort(tmp_path_factory.mktemp("cohort"), 6)


def test_a_step_draws_the_same_whenever_it_is_asked(cohort):
    alone = draw(cohort, 7, 41, 2, 16, 0.5)
    for step in range(41):
        draw(cohort, 7, step, 2, 16, 0.5)
    assert draw(cohort, 7, 41, 2, 16, 0.5) == alone
    assert draw(cohort, 8, 41, 2, 16, 0.5) != alone


def test_an_epoch_sees_every_subject_once(cohort):
    names = [example.record.name for step in range(3) for example in draw(cohort, 0, step, 2, None, 0)]
    assert sorted(names) == [record.name for record in cohort.subjects]


def test_each_axis_is_flipped_half_the_time(cohort):
    draws = [draw(cohort, 0, step, 1, None, 0)[0].flipped_axes for step in range(800)]
    for axis in (-3, -2, -1):
        assert np.mean([axis in axes for axes in draws]) == pytest.approx(0.5, abs=0.06)


def test_crops_lie_on_the_grid_and_on_lesions_when_asked(cohort):
    for step in range(12):
        (example,) = draw(cohort, 0, step, 1, 16, 1.0)
        assert all(0 <= corner <= 16 for corner in example.corner)
        window = tuple(slice(corner, corner + 16) for corner in example.corner)
        lesion = cohort.read(example.record).lesion
        assert lesion[window].any() or not lesion.any()


def test_loading_crops_input_and_target_alike(cohort):
    example = Example(cohort.subjects[1], (3, 5, 7), ())
    inputs, targets = load(cohort, (example,), 16)
    subject = cohort.read(example.record)
    np.testing.assert_array_equal(inputs[0], subject.input[:, 3:19, 5:21, 7:23])
    np.testing.assert_array_equal(targets[0, 0], subject.target[3:19, 5:21, 7:23])


def test_flips_are_each_examples_own(cohort):
    batch = torch.arange(2 * 8.0).reshape(2, 1, 2, 2, 2)
    record = cohort.subjects[0]
    flipped = flip(batch, (Example(record, (0, 0, 0), ()), Example(record, (0, 0, 0), (-3, -1))))
    torch.testing.assert_close(flipped[0], batch[0])
    assert flipped[1].flatten().tolist() == [13, 12, 15, 14, 9, 8, 11, 10]
