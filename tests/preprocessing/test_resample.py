"""Resampling, orientation and NIfTI: the same point keeps its value."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.nifti import read_nifti, write_nifti
from preprocessing.pose import about, rotation
from preprocessing.resample import inverse, isotropic, itk_affine, matrix_of, resample, standard_orientation
from preprocessing.volume import Geometry, Volume
from tests.preprocessing import series


def ramp(geometry: Geometry) -> Volume:
    """Values that are linear in space: x + 10 y + 100 z of the patient's coordinates."""
    k, j, i = np.indices(geometry.size[::-1])
    x, y, z = np.tensordot(geometry.affine, np.stack([i, j, k, np.ones_like(i)]), axes=1)[:3]
    return Volume((x + 10 * y + 100 * z).astype(np.float32), geometry, "ramp")


def test_linear_field_is_resampled_exactly() -> None:
    source = ramp(series.oblique((30, 30, 30), step=1.5))
    inner = isotropic(Geometry((10, 10, 10), tuple((source.geometry.affine @ [10, 10, 10, 1])[:3]), (1, 1, 1),
                               source.geometry.direction), 0.7)  # fmt: skip
    np.testing.assert_allclose(resample(source, like=inner).array, ramp(inner).array, atol=0.02)


def test_transform_takes_a_point_of_the_new_grid_to_a_point_of_the_volume() -> None:
    source = ramp(Geometry((30, 30, 30), (0, 0, 0), (1, 1, 1), (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    shift = np.eye(4)
    shift[:3, 3] = (2, 0, 0)
    small = Geometry((5, 5, 5), (5, 5, 5), (1, 1, 1), source.geometry.direction)
    np.testing.assert_allclose(resample(source, like=small, transform=shift).array, ramp(small).array + 2, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    turn=st.lists(st.floats(-0.25, 0.25), min_size=3, max_size=3),
    shift=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_onto_another_grid_and_back(turn: list[float], shift: list[float]) -> None:
    """A linear field comes back from a transform and its inverse, and from no transform."""
    upright = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    large = ramp(Geometry((40, 40, 40), (-20, -20, -20), (1, 1, 1), upright))
    there = about(np.array([1.0, -2.0, 3.0]), rotation(np.asarray(turn)), np.asarray(shift))
    native = Geometry((36, 36, 12), (-15.75, -15.75, -16.5), (0.9, 0.9, 3.0), upright)
    inner = Geometry((7, 7, 7), (-3, -3, -3), (1, 1, 1), upright)
    moved = resample(large, like=native, transform=inverse(there))
    back = resample(moved, like=inner, transform=there)
    np.testing.assert_allclose(back.array, ramp(inner).array, atol=0.01)
    np.testing.assert_array_equal(resample(large, like=large.geometry, transform=np.eye(4)).array, large.array)


def test_isotropic_grid_covers_the_same_box() -> None:
    old = series.oblique((24, 20, 8))
    new = isotropic(old, 0.5)
    middle_old = old.affine @ [*(np.asarray(old.size) - 1) / 2, 1]
    middle_new = new.affine @ [*(np.asarray(new.size) - 1) / 2, 1]
    np.testing.assert_allclose(middle_new, middle_old, atol=1e-9)
    assert new.size == (48, 50, 40)


def test_standard_orientation_moves_no_point() -> None:
    source = ramp(Geometry((6, 7, 8), (1, 2, 3), (1, 1.5, 2), (0, 0, -1, 1, 0, 0, 0, -1, 0)))
    turned = standard_orientation(source)
    np.testing.assert_allclose(turned.array, ramp(turned.geometry).array, atol=1e-3)
    np.testing.assert_allclose(np.reshape(turned.geometry.direction, (3, 3)), np.diag([1.0, -1.0, 1.0]))


def test_matrix_survives_itk() -> None:
    matrix = np.array([[1.1, 0.2, 0, 5], [-0.1, 0.9, 0.3, -7], [0, 0.1, 1.2, 2], [0, 0, 0, 1]])
    np.testing.assert_allclose(matrix_of(itk_affine(matrix)), matrix)


def test_nifti_there_and_back(tmp_path: Path) -> None:
    volume = series.truth()
    write_nifti(volume, tmp_path / "volume.nii.gz")
    back = read_nifti(tmp_path / "volume.nii.gz")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-5)
    image = nibabel.load(tmp_path / "volume.nii.gz")
    np.testing.assert_allclose(image.affine[:3, 3], np.asarray(volume.geometry.origin) * [-1, -1, 1], atol=1e-5)


def test_nifti_with_time_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "four.nii")
    with pytest.raises(ValueError, match="one 3D image"):
        read_nifti(tmp_path / "four.nii")
