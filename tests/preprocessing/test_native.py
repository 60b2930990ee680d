"""The way back, and the file that keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from preprocessing.grid import NETWORK_GRID, NETWORK_SHAPE, template
from preprocessing.native import native
from preprocessing.normalise import IntensityScale, scale_of
from preprocessing.resample import inverse, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import Geometry, Role, Volume
from tests.preprocessing import phantom

GRID = Geometry((120, 130, 30), (-95.0, -70.0, -60.0), (1.5, 1.5, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1), "1.2.3")


@pytest.fixture(scope="module")
def study() -> PreparedStudy:
    """The template's brain as if it were a low-dose series, in another pose than the grid's."""
    array = ndimage.gaussian_filter(resample(template(), like=NETWORK_GRID).array, 1.5) * 4
    brain = resample(template(), like=NETWORK_GRID).array > 30
    scale = scale_of(array, brain)
    pose = phantom.moved((6, -4, 9), (5, -8, 3), np.zeros(3))
    inputs = np.where(brain, scale.to_unit(array), 0)[None].astype(np.float32)
    return PreparedStudy((Role.LOW_DOSE,), inputs, brain, {Role.LOW_DOSE: pose}, {Role.LOW_DOSE: scale})


def test_round_trip(study: PreparedStudy) -> None:
    pose, scale = study.transforms[Role.LOW_DOSE], study.scales[Role.LOW_DOSE]
    smooth = Volume(ndimage.gaussian_filter(resample(template(), like=NETWORK_GRID).array, 1.5) * 4, NETWORK_GRID)
    expected = resample(smooth, like=GRID, transform=inverse(pose)).array
    back = native(study.input[0], study, GRID, source="series")
    brain = Volume(study.brain.astype(np.float32), NETWORK_GRID)
    inside = resample(brain, like=GRID, transform=inverse(pose)).array > 0.99
    inside &= expected > scale.mean - 2.9 * scale.sd  # what is darker was clipped
    error = np.abs(back.array - expected)[inside]
    print(f"round trip: mean error {error.mean() / scale.sd:.4f} sd, largest {error.max() / scale.sd:.4f} sd")
    assert error.mean() < 0.01 * scale.sd
    assert error.max() < 0.2 * scale.sd  # beside a voxel that was clipped
    assert back.geometry == GRID
    assert back.source == "series"


def test_zero_outside_the_brain_and_no_dark_rim_inside(study: PreparedStudy) -> None:
    flat = np.where(study.brain, 0.5, 0).astype(np.float32)
    back = native(flat, study, GRID).array
    value = float(study.scales[Role.LOW_DOSE].from_unit(np.asarray(0.5)))
    np.testing.assert_allclose(back[back != 0], value, rtol=1e-4)
    far = Geometry(GRID.size, (400.0, 400.0, 400.0), GRID.spacing, GRID.direction)
    assert not native(flat, study, far).array.any()


def test_background_fills_what_the_network_did_not_see(study: PreparedStudy) -> None:
    background = Volume(np.full(GRID.size[::-1], -1, np.float32), GRID)
    alone, filled = native(study.input[0], study, GRID), native(study.input[0], study, GRID, background=background)
    np.testing.assert_array_equal(filled.array[filled.array != -1], alone.array[filled.array != -1])
    assert (filled.array == -1).any()


def test_wrong_requests_are_refused(study: PreparedStudy) -> None:
    with pytest.raises(ValueError, match="network grid"):
        native(np.zeros((3, 3, 3), np.float32), study, GRID)
    with pytest.raises(ValueError, match="without a flair series"):
        native(study.input[0], study, GRID, role=Role.FLAIR)
    with pytest.raises(ValueError, match="background"):
        native(study.input[0], study, GRID, background=Volume(np.zeros((2, 2, 2), np.float32), series_grid(2)))


def series_grid(size: int) -> Geometry:
    return Geometry((size, size, size), (0, 0, 0), (1, 1, 1), GRID.direction)


def test_study_is_the_same_after_saving(study: PreparedStudy, tmp_path: Path) -> None:
    study.save(tmp_path / "prepared.npz")
    loaded = PreparedStudy.load(tmp_path / "prepared.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["prepared.npz"]
    assert loaded.channels == study.channels
    np.testing.assert_array_equal(loaded.input, study.input)
    np.testing.assert_array_equal(loaded.brain, study.brain)
    np.testing.assert_array_equal(loaded.transforms[Role.LOW_DOSE], study.transforms[Role.LOW_DOSE])
    assert loaded.scales == study.scales
    assert loaded.target is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_study_cut_short_is_refused(study: PreparedStudy, tmp_path: Path, share: float) -> None:
    path = tmp_path / "prepared.npz"
    study.save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"prepared\.npz"):
        PreparedStudy.load(path)


def test_study_of_the_wrong_shape_is_refused() -> None:
    brain = np.zeros(NETWORK_SHAPE, dtype=bool)
    with pytest.raises(ValueError, match="should be"):
        PreparedStudy((Role.T1,), np.zeros((2, *NETWORK_SHAPE), np.float32), brain, {}, {Role.T1: IntensityScale(0, 1)})
