"""Registration against known movements, and against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.grid import NETWORK_GRID, template, template_brain
from preprocessing.nifti import geometry_of
from preprocessing.reference import register as reference
from preprocessing.register import RegistrationError, affine_to_template, rigid
from preprocessing.resample import Matrix, resample
from preprocessing.volume import Geometry, Volume
from tests.preprocessing import phantom


def distances(found: Matrix, true: Matrix, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """How far apart (mm) two matrices put the points of a mask."""
    index = np.argwhere(mask)[::2000, ::-1]
    points = geometry.affine @ np.c_[index, np.ones(len(index))].T
    return np.linalg.norm((found @ points - true @ points)[:3], axis=0)


@pytest.mark.parametrize(
    ("degrees", "shift"),
    [((0, 0, 0), (0, 0, 0)), ((2, -1, 3), (3, -2, 1)), ((-8, 11, 4), (12, 8, -15)), ((15, 0, 0), (0, 0, 20))],
    ids=["still", "moved a little", "moved much", "moved most"],
)
def test_thick_flair_is_aligned_to_the_t1(
    degrees: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    t1, flair, brain = phantom.head()
    true = phantom.moved(degrees, shift, reference.centroid(brain, t1.geometry))
    scan = phantom.scanned(flair, brain, true, (0.9, 0.9, 5.0), (256, 256, 32))
    error = distances(rigid(t1, brain, scan), true, brain, t1.geometry)
    print(f"target registration error: mean {error.mean():.3f} mm, largest {error.max():.3f} mm")
    assert error.mean() < 0.3
    assert error.max() < 0.6


def test_slab_that_shows_half_the_brain_is_aligned() -> None:
    t1, flair, brain = phantom.head()
    true = phantom.moved((4, 3, -6), (5, -3, 6), reference.centroid(brain, t1.geometry))
    scan = phantom.scanned(flair, brain, true, (0.9, 0.9, 5.0), (256, 256, 14))
    error = distances(rigid(t1, brain, scan), true, brain, t1.geometry)
    assert error.max() < 1.0


def test_fast_and_reference_agree() -> None:
    t1, flair, brain = phantom.head()
    true = phantom.moved((2, -3, 4), (3, -2, 5), reference.centroid(brain, t1.geometry))
    scan = phantom.scanned(flair, brain, true, (0.9, 0.9, 5.0), (256, 256, 32))
    apart = distances(rigid(t1, brain, scan), reference.rigid(t1, brain, scan), brain, t1.geometry)
    print(f"fast and reference: {apart.max():.3f} mm apart at most")
    assert apart.max() < 1.0


def test_aligned_images_stay_where_they_are() -> None:
    t1, _, brain = phantom.head()
    error = distances(rigid(t1, brain, t1), np.eye(4), brain, t1.geometry)
    assert error.max() < 0.05


def test_every_run_gives_the_same() -> None:
    t1, flair, brain = phantom.head()
    np.testing.assert_array_equal(rigid(t1, brain, flair), rigid(t1, brain, flair))


def test_image_elsewhere_is_refused_with_its_name() -> None:
    t1, _, brain = phantom.head()
    away = Geometry((64, 64, 64), (900.0, 900.0, 900.0), (2.0, 2.0, 2.0), t1.geometry.direction)
    with pytest.raises(RegistrationError, match="far away"):
        rigid(t1, brain, Volume(np.ones((64, 64, 64), np.float32), away, "far away"))


def test_empty_mask_is_refused() -> None:
    t1, flair, brain = phantom.head()
    for register in (lambda mask: rigid(t1, mask, flair), lambda mask: affine_to_template(t1, mask)):
        with pytest.raises(RegistrationError, match="brain extraction"):
            register(np.zeros_like(brain))


def test_affine_brings_the_brain_onto_the_template_whatever_its_pose() -> None:
    t1, _, brain = phantom.head(4)
    found = affine_to_template(t1, brain)
    on_grid = resample(t1.with_array(brain), like=NETWORK_GRID, transform=found).array > 0.5
    target = resample(template().with_array(template_brain()), like=NETWORK_GRID).array > 0.5
    overlap = 2 * (on_grid & target).sum() / (on_grid.sum() + target.sum())
    print(f"overlap of the brain with the template's after the affine registration: Dice {overlap:.3f}")
    assert overlap > 0.92

    pose = phantom.moved((15, -8, 6), (10, -12, 20), reference.centroid(brain, t1.geometry))
    tilted = Volume(t1.array, geometry_of(pose @ t1.geometry.affine, t1.geometry.size))
    error = distances(affine_to_template(tilted, brain), pose @ found, target, NETWORK_GRID)
    print(f"the same head in another pose: mean {error.mean():.3f} mm, largest {error.max():.3f} mm")
    assert error.mean() < 1.0


def test_affine_keeps_left_and_right() -> None:
    t1, _, brain = phantom.head(4)
    matrix = affine_to_template(t1, brain)[:3, :3]
    assert np.linalg.det(matrix) > 0
    assert matrix[0, 0] > 0.5
