"""What counts as a lesion seen, by hand: spheres of known size that are there, faint, or invented."""

import math

import numpy as np
import pytest

from model.detection import detect, diameter_mm, enhancement, enhancing, fit_level, size_of

SHAPE = (48, 48, 48)


def sphere(centre, radius):
    grid = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


SMALL, MIDDLE, LARGE, INVENTED, VESSEL = (
    sphere((10, 10, 10), 2), sphere((10, 35, 10), 4), sphere((35, 15, 30), 7), sphere((38, 38, 10), 3),
    sphere((12, 36, 38), 3),
)  # fmt: skip


def image(*parts, level=0.4):
    return np.where(np.any(parts, axis=0), level, 0.0).astype(np.float32)


def seen(*parts):
    return np.any(parts, axis=0)


def test_sensitivity_and_false_positives_by_hand():
    lesions = SMALL | MIDDLE | LARGE
    found = detect(seen(MIDDLE, LARGE, INVENTED, VESSEL), seen(lesions, VESSEL), lesions, 1.0)
    by_size = {size_of(one.diameter_mm): (one.in_virtual, one.in_full_dose) for one in found.lesions}
    assert by_size == {0: (False, True), 1: (True, True), 2: (True, True)}
    (false,) = found.false_positives_mm  # the vessel enhances in the full dose too: it is none
    assert false == pytest.approx((6 * INVENTED.sum() / math.pi) ** (1 / 3))


def test_a_lesion_must_be_covered_by_a_quarter():
    edge = LARGE & (np.indices(SHAPE)[0] < 31)
    most = LARGE & (np.indices(SHAPE)[0] < 34)
    assert edge.sum() < 0.25 * LARGE.sum() < most.sum()
    assert not detect(edge, LARGE, LARGE, 1.0).lesions[0].in_virtual
    assert detect(most, LARGE, LARGE, 1.0).lesions[0].in_virtual


def test_specks_are_nothing():
    speck = np.zeros(SHAPE, bool)
    speck[5, 5, 5:8] = True
    assert detect(speck, LARGE, LARGE, 1.0).false_positives_mm == ()


def test_noise_is_no_enhancement_and_multiplying_it_shows_no_more():
    random = np.random.default_rng(1)
    brain = np.ones(SHAPE, bool)
    t1 = np.full(SHAPE, 0.3, np.float32)
    noise = random.normal(0, 0.05, SHAPE).astype(np.float32)
    full_dose = t1 + image(LARGE, level=0.4) + noise
    low_dose = t1 + image(LARGE, level=0.1) + noise
    four_times = t1 + 4 * (low_dose - t1)
    level = 0.1
    full, low, multiplied = (
        enhancing(enhancement(one, t1, brain), brain, level) for one in (full_dose, low_dose, four_times)
    )
    assert full[LARGE].mean() > 0.9 and full[~LARGE].mean() < 0.02
    assert not multiplied[~LARGE].any()
    assert multiplied[LARGE].mean() <= full[LARGE].mean()
    assert (enhancement(four_times, t1, brain)[~LARGE] > level).mean() > 0.01  # what the level alone would count
    assert not low[~LARGE].any()


def test_sizes_are_of_the_sphere_of_the_same_volume_and_follow_the_voxel():
    assert diameter_mm(int(sphere((24, 24, 24), 10).sum()), 1.0) == pytest.approx(20, rel=0.02)
    assert diameter_mm(1, 2.0) == pytest.approx(2 * diameter_mm(1, 1.0))
    assert [size_of(diameter) for diameter in (4.99, 5, 9.99, 10, 80)] == [0, 1, 1, 2, 2]


def test_the_level_lies_between_noise_and_lesion():
    random = np.random.default_rng(0)
    brain = np.ones(SHAPE, bool)
    pairs = []
    for _ in range(2):
        t1 = random.normal(0.3, 0.03, SHAPE).astype(np.float32)
        full_dose = t1 + image(LARGE, MIDDLE, level=0.3) + random.normal(0, 0.03, SHAPE).astype(np.float32)
        pairs.append((enhancement(full_dose, t1, brain), LARGE | MIDDLE))
    level = fit_level(pairs)
    assert 0.08 < level < 0.25
    for difference, lesion in pairs:
        seen = difference > level
        assert 2 * (seen & lesion).sum() / (seen.sum() + lesion.sum()) > 0.85
    assert math.isnan(fit_level([(pairs[0][0], np.zeros(SHAPE, bool))]))
