"""Label maps from files, and the phantom that needs none."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from simulator import structures as fs
from simulator.deformation import DeformationSettings, deformed
from simulator.heads import MARGIN, AnatomyError, head_files, load_head
from simulator.icbm import icbm_head
from simulator.randomness import stream


def save(path: Path, labels: np.ndarray, orientation: str = "LIA") -> Path:
    """A label map given in RAS [x, y, z], stored in another orientation."""
    image = nib.Nifti1Image(labels.astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))
    wanted = nib.orientations.axcodes2ornt(tuple(orientation))
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)), path)
    return path


def small_map() -> np.ndarray:
    """RAS: skin all over, white matter inside, and a left eye in front."""
    labels = np.zeros((30, 40, 36))
    labels[4:26, 4:36, 4:32] = 511
    labels[10:20, 10:24, 14:28] = 2
    labels[8:11, 30:33, 12:15] = 506
    return labels


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "LPS", "PIR"])
def test_any_orientation_gives_the_same_head_in_lps(tmp_path: Path, orientation: str) -> None:
    head = load_head(save(tmp_path / "head_01.nii.gz", small_map(), orientation))
    assert head.name == "head_01"
    eye = np.argwhere(head.structures == 506).mean(axis=0)[::-1]
    x, y, z = head.grid.point(eye)
    # RAS eye minus RAS brain centre, with x and y turned over; the brain's centre is the origin.
    assert (x, y, z) == pytest.approx((14.5 - 9, 16.5 - 31, 13 - 20.5), abs=1.01)
    assert head.structures.shape == (28 + MARGIN, 32 + 2 * MARGIN, 22 + 2 * MARGIN)


def test_unusable_anatomy_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnatomyError, match=r"holds no head_\*.nii.gz"):
        head_files(tmp_path)
    broken = tmp_path / "head_02.nii.gz"
    broken.write_bytes(b"no NIfTI at all")
    with pytest.raises(AnatomyError, match=r"head_02.nii.gz cannot be read"):
        load_head(broken)
    with pytest.raises(AnatomyError, match="no FreeSurfer brain label"):
        load_head(save(tmp_path / "head_03.nii.gz", np.where(small_map() == 2, 511, small_map())))
    with pytest.raises(AnatomyError, match="labels outside"):
        load_head(save(tmp_path / "head_04.nii.gz", small_map() * 3))


def test_the_phantom_is_a_whole_head() -> None:
    head = icbm_head()
    volumes = {name: int(fs.lookup(codes)[head.structures].sum()) / 1000 for name, codes in (
        ("white", fs.WHITE), ("cortex", fs.CORTEX), ("ventricles", fs.LATERAL_VENTRICLES),
        ("cerebellum", fs.CEREBELLUM), ("thalamus", fs.THALAMUS), ("bone", fs.COMPACT_BONE), ("eyes", fs.EYES),
    )}  # fmt: skip
    # Millilitres of an adult, widely.
    for name, (low, high) in {
        "white": (400, 800), "cortex": (350, 800), "ventricles": (8, 60), "cerebellum": (90, 220), "thalamus": (6, 20),
        "bone": (300, 1500), "eyes": (10, 20),
    }.items():  # fmt: skip
        assert low < volumes[name] < high, name
    brain = fs.lookup(fs.BRAIN)[head.structures]
    assert not (brain[:, :, 0] | brain[:, :, -1]).any() and not (head.structures[-1] > 0).any()


def test_no_deformation_leaves_the_head_as_it_is() -> None:
    head = icbm_head()
    still = DeformationSettings(scale=0, turn=0, bend=0, mirror=False)
    assert np.array_equal(deformed(head, stream(1, "d"), still).structures, head.structures)


def test_a_mirrored_head_has_its_left_on_the_right() -> None:
    head = icbm_head()
    seed = next(s for s in range(20) if stream(s, "d").random() < 0.5)
    flipped = deformed(head, stream(seed, "d"), DeformationSettings(scale=0, turn=0, bend=0))
    left = np.argwhere(flipped.structures == 2)[:, 2].mean()
    assert np.argwhere(head.structures == 2)[:, 2].mean() > -head.grid.origin[0] > left
    same = np.argwhere(flipped.structures == 41)[:, 2].mean()
    assert abs((left + same) / 2 + head.grid.origin[0]) < 2


def test_a_deformed_head_is_another_persons() -> None:
    head = icbm_head()
    other = deformed(head, stream(1, "d"), DeformationSettings())
    brain, changed = (fs.lookup(fs.BRAIN)[h.structures] for h in (head, other))
    assert 0.75 < 2 * (brain & changed).sum() / (brain.sum() + changed.sum()) < 0.99
    assert 0.75 < changed.sum() / brain.sum() < 1.3
