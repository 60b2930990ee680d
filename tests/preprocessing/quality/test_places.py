"""Fields of view, alignment, shape and signals, each against a truth that was put in."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from preprocessing.grid import NETWORK_GRID, NETWORK_SHAPE, template
from preprocessing.normalise import IntensityScale
from preprocessing.quality.coverage import brain_cut, coverage, inside_view, overlap
from preprocessing.quality.intensity import bias, enhancement, gain
from preprocessing.quality.shape import brain_of_template, brain_scale, brain_shape, brain_volume, from_t1, pose
from preprocessing.quality.similarity import levels, misalignment, similarity
from preprocessing.resample import resample
from preprocessing.volume import Geometry

WHOLE = NETWORK_GRID


def low(geometry: Geometry, slices: int) -> Geometry:
    """Without its upper slices."""
    return replace(geometry, size=(geometry.size[0], geometry.size[1], geometry.size[2] - slices))


@cache
def t1() -> NDArray[np.float32]:
    return resample(template(), like=NETWORK_GRID).array


def test_a_view_of_everything_covers_the_brain_and_cuts_nothing():
    brain = brain_of_template()
    seen = inside_view(WHOLE, np.eye(4))
    assert seen.all()
    assert coverage(brain, seen) == 100
    assert brain_cut(brain, WHOLE, np.eye(4)) == 0


def test_a_cropped_vertex_is_lost_brain_and_a_section_through_it():
    brain = brain_of_template()
    cut = low(WHOLE, 30)
    lost = 100 * brain[-30:].sum() / brain.sum()
    assert coverage(brain, inside_view(cut, np.eye(4))) == pytest.approx(100 - lost, abs=0.01)
    assert brain_cut(brain, cut, np.eye(4)) == pytest.approx(brain[-30].sum() / 100, rel=0.1)
    assert overlap(brain, [inside_view(WHOLE, np.eye(4)), inside_view(cut, np.eye(4))]) == pytest.approx(100 - lost)


def test_shape_and_size_know_a_brain_from_half_of_one():
    brain = brain_of_template()
    assert brain_shape(brain) == 1
    half = brain.copy()
    half[:, :, :80] = False
    assert brain_shape(half) < 0.7
    assert brain_volume(brain, np.diag([2.0, 1.0, 1.0, 1.0])) == pytest.approx(brain.sum() * 2 / 1000)
    assert brain_scale(np.eye(4)) == pytest.approx(1)
    assert brain_scale(np.diag([1.0, 0.5, 1.0, 1.0])) == pytest.approx(2)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-30, 30)] * 3), st.tuples(*[st.floats(-40, 40)] * 3))
def test_the_pose_is_that_of_the_rigid_part(degrees: tuple[float, ...], shift: tuple[float, ...]):
    centre = np.array([3.0, -10.0, 20.0])
    turn = Rotation.from_euler("xyz", degrees, degrees=True)
    rigid = np.eye(4)
    rigid[:3, :3] = turn.as_matrix()
    rigid[:3, 3] = centre + np.asarray(shift) - rigid[:3, :3] @ centre
    to_t1 = np.diag([1.1, 0.9, 1.2, 1.0])
    rotation, translation = pose(from_t1(rigid @ to_t1, to_t1), centre)
    assert translation == pytest.approx(float(np.linalg.norm(shift)), abs=1e-6)
    assert rotation == pytest.approx(np.degrees(turn.magnitude()), abs=1e-3)


def test_an_image_is_most_similar_to_itself_and_not_at_all_to_noise():
    brain = brain_of_template()
    own = levels(t1(), brain)
    noise = levels(np.random.default_rng(1).random(NETWORK_SHAPE, dtype=np.float32), brain)
    assert similarity(own[brain], own[brain]) == pytest.approx(2)
    assert similarity(own[brain], noise[brain]) == pytest.approx(1, abs=0.005)
    assert np.isnan(similarity(own[brain], np.full_like(own[brain], -1)))


@pytest.mark.parametrize("shift", [(0, 0, 0), (5, 0, 0), (0, -7, 3)])
def test_misalignment_is_the_shift_that_was_made_whatever_the_contrast(shift: tuple[int, int, int]):
    brain = ndimage.binary_erosion(brain_of_template(), iterations=3)
    other = np.square(300 - t1())  # brighter where the T1 is darker
    moving = levels(np.roll(other, shift, axis=(0, 1, 2)), brain)
    assert misalignment(levels(t1(), brain), moving, brain) == pytest.approx(float(np.linalg.norm(shift)), abs=0.1)


def test_enhancement_is_positive_with_agent_zero_without_and_negative_when_exchanged():
    rng = np.random.default_rng(2)
    before = t1() + rng.normal(0, 4, NETWORK_SHAPE).astype(np.float32)
    after = 1.3 * (t1() + rng.normal(0, 4, NETWORK_SHAPE).astype(np.float32))
    white = t1() > np.percentile(t1()[brain_of_template()], 70)
    brain = brain_of_template()
    vessels = np.zeros(NETWORK_SHAPE, dtype=bool)
    vessels[60:100, 86:96, 60:100] = True
    enhanced = after + 200 * vessels
    assert abs(enhancement(before, after, brain, white)) < 0.5
    assert enhancement(before, enhanced, brain, white) > 1
    assert enhancement(enhanced, before, brain, white) < -1
    assert np.isnan(enhancement(before, after, brain, np.zeros_like(brain)))


def test_bias_is_the_deviation_of_the_field_that_was_removed():
    brain = brain_of_template()
    k = np.linspace(-1, 1, NETWORK_SHAPE[0], dtype=np.float32)[:, None, None]
    field = 0.3 * np.broadcast_to(k, NETWORK_SHAPE)
    corrected = t1() + 50
    unit = np.full(NETWORK_SHAPE, 0.5, dtype=np.float32)
    assert bias(corrected * np.exp(field), corrected, unit, brain) == pytest.approx(100 * field[brain].std(), rel=0.02)
    assert bias(corrected, corrected, unit, brain) == 0
    assert np.isnan(bias(corrected, corrected, np.zeros_like(unit), brain)), "nothing left that was not clipped"


def test_gain_is_the_ratio_of_the_brains():
    assert gain(IntensityScale(220.0, 10.0), IntensityScale(200.0, 10.0)) == pytest.approx(1.1)
