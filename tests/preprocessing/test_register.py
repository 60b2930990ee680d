"""Registration against known movements."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.grid import NETWORK_GRID, template, template_brain
from preprocessing.nifti import geometry_of
from preprocessing.register import RegistrationError, affine_to_template, centroid, rigid
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
    [((0, 0, 0), (0, 0, 0)), ((2, -1, 3), (3, -2, 1)), ((-8, 11, 4), (12, 8, -15))],
    ids=["still", "moved a little", "moved much"],
)
def test_thick_flair_is_aligned_to_the_t1(
    degrees: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    t1, flair, brain = phantom.head()
    true = phantom.moved(degrees, shift, centroid(brain, t1.geometry))
    scan = phantom.scanned(flair, brain, true, (0.9, 0.9, 5.0), (256, 256, 32))
    error = distances(rigid(t1, brain, scan), true, brain, t1.geometry)
    print(f"target registration error: mean {error.mean():.3f} mm, largest {error.max():.3f} mm")
    assert error.mean() < 0.4
    assert error.max() < 1.0


def test_aligned_images_stay_where_they_are() -> None:
    t1, _, brain = phantom.head()
    error = distances(rigid(t1, brain, t1), np.eye(4), brain, t1.geometry)
    assert error.max() < 0.1


def test_empty_image_is_refused_with_its_name() -> None:
    t1, _, brain = phantom.head()
    away = Geometry((64, 64, 64), (900.0, 900.0, 900.0), (2.0, 2.0, 2.0), t1.geometry.direction)
    with pytest.raises(RegistrationError, match="far away"):
        rigid(t1, brain, Volume(np.ones((64, 64, 64), np.float32), away, "far away"))


def test_affine_brings_the_brain_onto_the_template_whatever_its_pose() -> None:
    t1, _, brain = phantom.head(4)
    found = affine_to_template(t1, brain)
    on_grid = resample(t1.with_array(brain), like=NETWORK_GRID, transform=found).array > 0.5
    target = resample(template().with_array(template_brain()), like=NETWORK_GRID).array > 0.5
    overlap = 2 * (on_grid & target).sum() / (on_grid.sum() + target.sum())
    print(f"overlap of the brain with the template's after the affine registration: Dice {overlap:.3f}")
    assert overlap > 0.92

    pose = phantom.moved((15, -8, 6), (10, -12, 20), centroid(brain, t1.geometry))
    tilted = Volume(t1.array, geometry_of(pose @ t1.geometry.affine, t1.geometry.size))
    error = distances(affine_to_template(tilted, brain), pose @ found, target, NETWORK_GRID)
    print(f"the same head in another pose: mean {error.mean():.3f} mm, largest {error.max():.3f} mm")
    assert error.max() < 0.5


def test_affine_keeps_left_and_right() -> None:
    t1, _, brain = phantom.head(4)
    matrix = affine_to_template(t1, brain)[:3, :3]
    assert np.linalg.det(matrix) > 0
    assert matrix[0, 0] > 0.5
