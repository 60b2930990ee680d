"""The fast path: a subject on the network's grid."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing import grid as preprocessing_grid
from simulator.deformation import rotation
from simulator.grid import affine_transform, axis_aligned, resample
from simulator.network import NETWORK_GRID, NetworkGridSubject, network_grid
from simulator.registration import RegistrationError, mni_to_head, rigid, template_brain
from simulator.subject import Subject


@pytest.fixture(scope="module")
def aligned(subject: Subject) -> NetworkGridSubject:
    return network_grid(subject)


def test_the_grid_is_the_one_that_preprocessing_writes() -> None:
    theirs = preprocessing_grid.NETWORK_GRID
    assert NETWORK_GRID.size == theirs.size
    assert np.allclose(NETWORK_GRID.matrix, theirs.affine)


def test_series_are_finite_and_in_their_units(aligned: NetworkGridSubject) -> None:
    for name in ("t1", "flair", "adc", "low_dose", "full_dose"):
        values = getattr(aligned, name)
        assert values.shape == (160, 192, 160) and values.dtype == np.float32
        assert np.isfinite(values).all() and values.min() >= 0
    assert 0.4 < np.median(aligned.t1[aligned.brain]) < 1.1
    assert 0.6e-3 < np.median(aligned.adc[aligned.brain]) < 1.2e-3
    assert aligned.head == "icbm152" and aligned.condition == "glioblastoma"


def test_the_brain_lies_on_the_template(aligned: NetworkGridSubject) -> None:
    values, coarse = template_brain()
    k, j, i = np.meshgrid(*[np.arange(2, n, 4) for n in NETWORK_GRID.shape], indexing="ij")
    points = np.stack([i, j, k], axis=-1) + NETWORK_GRID.origin
    index = np.rint((points - coarse.origin) / 4).astype(int)
    template = values[index[..., 2], index[..., 1], index[..., 0]] > 0.3 * values.max()
    mine = aligned.brain[2::4, 2::4, 2::4]
    assert 2 * (mine & template).sum() / (mine.sum() + template.sum()) > 0.9


def test_the_doses_rank_in_the_lesion(aligned: NetworkGridSubject) -> None:
    assert aligned.lesion.any()
    low = float((aligned.low_dose - aligned.t1)[aligned.lesion].mean())
    full = float((aligned.full_dose - aligned.t1)[aligned.lesion].mean())
    assert full > 0.1 and 0.15 < low / full < 0.5


def test_a_known_affine_is_found_and_found_again() -> None:
    values, coarse = template_brain()
    fine = axis_aligned((180, 220, 180), (-90.0, -90.0, -80.0))
    known = np.eye(4)
    known[:3, :3] = rotation(np.array([8.0, -3.0, 4.0])) @ np.diag([1.08, 0.95, 1.04])
    known[:3, 3] = [4.0, -12.0, 7.0]
    head = resample(values, coarse, fine, affine_transform(np.linalg.inv(known)))  # the template, moved by ``known``
    found = mni_to_head(head, fine)
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-60, 80) for z in (-50, 60)], dtype=float)
    assert np.abs((corners @ (found - known).T)[:, :3]).max() < 2.5
    assert np.array_equal(found, mni_to_head(head, fine))


def test_a_rigid_motion_between_two_series_is_found() -> None:
    values, coarse = template_brain()
    known = np.eye(4)
    known[:3, :3] = rotation(np.array([4.0, -2.0, 3.0]))
    known[:3, 3] = [2.0, -3.0, 1.0]
    moved = resample(values, coarse, coarse, affine_transform(np.linalg.inv(known)))
    found = rigid(values, coarse, moved, coarse)
    for corner in ((-50.0, -40.0, -30.0), (40.0, 60.0, 30.0)):
        expected = known[:3, :3] @ corner + known[:3, 3]
        assert np.abs(np.array(found.TransformPoint(corner)) - expected).max() < 1.0
    far = axis_aligned(coarse.size, (5000.0, 0.0, 0.0), 4.0)
    with pytest.raises(RegistrationError, match="no head that could be aligned"):
        rigid(values, coarse, moved, far)
