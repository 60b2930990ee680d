"""The answers that need no learning, and how methods are judged."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from model.cohort import Cohort, Subject, write_subject
from model.evaluate import Result, evaluate
from model.rivals import extrapolated, fit_extrapolation, unchanged
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort


def test_the_fitted_factor_is_the_one_that_made_the_images(tmp_path):
    random = np.random.default_rng(0)
    t1 = random.uniform(0.1, 0.4, (16, 16, 16))
    low = t1 + random.uniform(0, 0.1, t1.shape)
    brain = np.ones(t1.shape, bool)
    subject = Subject(np.stack((t1, low)).astype(np.float16), (t1 + 3.5 * (low - t1)).astype(np.float16), brain, brain)
    write_subject(tmp_path, "subject", "head", ROLES, subject)
    cohort = Cohort.open(tmp_path)
    k = fit_extrapolation(cohort)
    assert k == pytest.approx(3.5, abs=0.01)
    inputs = subject.input.astype(np.float32)
    np.testing.assert_allclose(extrapolated(inputs, ROLES, k), subject.target, atol=2e-3)
    np.testing.assert_array_equal(unchanged(inputs, ROLES), inputs[1])


def test_nothing_to_extrapolate_is_said(tmp_path):
    brain = np.ones((16, 16, 16), bool)
    flat = np.full(brain.shape, 0.25, np.float16)
    write_subject(tmp_path, "subject", "head", ROLES, Subject(np.stack((flat, flat)), flat, brain, brain))
    with pytest.raises(ValueError, match="nothing to extrapolate"):
        fit_extrapolation(Cohort.open(tmp_path))


def test_a_rival_says_what_it_needs():
    with pytest.raises(ValueError, match="needs low_dose"):
        unchanged(np.zeros((1, 4, 4, 4), np.float32), (Role.T1,))


def test_evaluation_is_the_mean_over_subjects_and_ignores_what_lies_outside_the_brain(tmp_path):
    cohort = tiny_cohort(tmp_path, 3)
    seen = []
    targets = {record.name: cohort.read(record) for record in cohort.subjects}
    remaining = iter(targets.values())

    def off_by_a_tenth(inputs, brain):
        return np.asarray(next(remaining).target, np.float32) + np.where(brain, np.float32(0.1), np.float32(9))

    result = evaluate("off", off_by_a_tenth, cohort, lambda done, all_: seen.append((done, all_)))
    assert result.brain.l2.mean == pytest.approx(0.01, rel=1e-4)
    assert result.brain.psnr.mean == pytest.approx(20, rel=1e-4)
    assert result.grid.l2.mean == pytest.approx(0.01 * np.mean([s.brain.mean() for s in targets.values()]), rel=1e-4)
    assert result.grid.t_l2.mean == pytest.approx(0.01, rel=1e-4)  # of the subjects that have a lesion
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert Result.from_json(json.loads(json.dumps(asdict(result)))) == result
