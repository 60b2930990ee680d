"""Volumes: geometry in LPS, the same through SimpleITK, and never an array that does not fit its grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from preprocessing.volume import Geometry, Volume, from_sitk, to_sitk

mm = st.floats(-200, 200)
step = st.floats(0.2, 6)
angle = st.floats(-180, 180)


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)))
    turn = Rotation.from_euler("xyz", draw(st.tuples(angle, angle, angle)), degrees=True).as_matrix()
    geometry = Geometry(
        size, draw(st.tuples(mm, mm, mm)), draw(st.tuples(step, step, step)), tuple(map(float, turn.ravel())), "1.2.3"
    )
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=size[::-1])
    return Volume(values.astype(np.float32), geometry, "a series")


@given(volumes())
def test_a_volume_is_the_same_after_simpleitk(volume: Volume):
    back = from_sitk(to_sitk(volume), "1.2.3", "a series")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-9)
    assert back.geometry.size == volume.geometry.size


@given(volumes())
def test_the_affine_says_where_simpleitk_sees_a_voxel(volume: Volume):
    last = [n - 1 for n in volume.geometry.size]
    ours = volume.geometry.affine @ [*last, 1]
    np.testing.assert_allclose(ours[:3], to_sitk(volume).TransformIndexToPhysicalPoint(last), atol=1e-6)


def test_an_array_that_does_not_fit_its_grid_is_refused():
    geometry = Geometry((4, 3, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), tuple(np.eye(3).ravel()))
    with pytest.raises(ValueError, match="does not fit"):
        Volume(np.zeros((4, 3, 2), np.float32), geometry)
    with pytest.raises(ValueError, match="9 numbers"):
        Geometry((4, 3, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0))
