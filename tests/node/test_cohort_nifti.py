"""Sessions from NIfTI files in BraTS' layout: a real patient, whole and stripped, under both generations of names."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from model.cohort import Cohort, left_out
from node.cli import app
from node.cohort_nifti import SIMULATED, _segmentation, from_nifti
from preprocessing.prepare import PreparationSettings
from preprocessing.role import Role
from tests.preprocessing.series import shared

ROLES = (Role.T1, Role.FLAIR, Role.LOW_DOSE)


def sessions(folder, *, simulate=True):
    return list(from_nifti(folder, ROLES, PreparationSettings(), lambda doing, share: None, simulate_low_dose=simulate))


def brats(folder, name, names=("t1n", "t1c", "t2f")):
    """The real patient under BraTS' names, the skull stripped; lesion: a box of the tumour's enhancement."""
    source = shared("real", "glioma_tcga_fg_6692")
    place = folder / name
    place.mkdir(parents=True)
    mask = nibabel.load(source / "t1_hdbet_mask.nii.gz")
    for series, called in zip(("t1", "t1ce", "flair"), names, strict=True):
        image = nibabel.load(source / f"{series}.nii.gz")
        array = np.asarray(image.dataobj, np.float32)
        if series == "t1":
            array = np.where(np.asarray(mask.dataobj) > 0, array, 0)
        nibabel.save(nibabel.Nifti1Image(array, image.affine), place / f"{name}-{called}.nii.gz")
    after = nibabel.load(source / "t1ce.nii.gz")
    labels = np.zeros(after.shape, np.uint8)
    i, j, k = (size // 2 for size in after.shape)
    labels[i - 10 : i + 10, j - 10 : j + 10, k - 2 : k + 2] = 3
    labels[i + 10 : i + 20, j - 10 : j + 10, k - 2 : k + 2] = 4
    nibabel.save(nibabel.Nifti1Image(labels, after.affine), place / f"{name}-seg.nii.gz")
    return place


def test_a_stripped_patient_joins_with_a_made_up_low_dose_that_says_so(tmp_path):
    brats(tmp_path / "brats", "BraTS-GLI-00007-000")
    cohort = tmp_path / "cohort"
    roles = [word for role in ROLES for word in ("--role", role)]
    said = CliRunner().invoke(
        app, ["cohort", "add", str(cohort), "--from-nifti", str(tmp_path / "brats"), "--simulate-low-dose", *roles]
    )
    assert said.exit_code == 0, said.output
    content = Cohort.open(cohort)
    (record,) = content.subjects
    assert (record.name, record.patient) == (f"BraTS-GLI-00007-000_{SIMULATED}", "BraTS-GLI-00007")
    subject = content.read(record)
    t1, _, low_dose = np.asarray(subject.input, np.float32)
    full, brain = np.asarray(subject.target, np.float32), np.asarray(subject.brain)
    assert 1000 < brain.sum() / 1000 < 2300  # ml
    t1ce = nibabel.load(shared("real", "glioma_tcga_fg_6692") / "t1ce.nii.gz")
    box_mm3 = 20 * 20 * 4 * float(np.prod(t1ce.header.get_zooms()))
    assert subject.lesion.sum() == pytest.approx(box_mm3, rel=0.6)  # 1 mm voxels, stretched
    far, near = (np.corrcoef(image[brain], full[brain])[0, 1] for image in (t1, low_dose))
    assert near > far > 0.5  # between the two


def test_the_label_of_enhancing_tumour_follows_the_names(tmp_path):
    new = brats(tmp_path / "new", "a")
    old = brats(tmp_path / "old", "a", names=("t1", "t1ce", "flair"))
    assert [_segmentation(place)[1] for place in (new, old)] == [3, 4]


def test_what_is_missing_is_said(tmp_path):
    place = brats(tmp_path, "BraTS-GLI-00007-001")
    (without,) = sessions(tmp_path, simulate=False)
    assert without.date == "001"
    (lack,) = without.lacks
    assert lack.startswith("it has no low dose; --simulate-low-dose")
    next(place.glob("*t2f*")).unlink()
    (incomplete,) = sessions(tmp_path)
    assert incomplete.lacks == ("it has no flair (t2f or flair)",)
    shutil.copy(next(place.glob("*t1c*")), place / "t1ce.nii.gz")
    with pytest.raises(ValueError, match="several of one kind"):
        sessions(tmp_path)
    with pytest.raises(ValueError, match="one folder per session"):
        sessions(place)


def test_several_sessions_of_a_patient_and_an_incomplete_one(tmp_path):
    brats(tmp_path / "brats", "BraTS-GLI-00008-000")
    (tmp_path / "brats" / "BraTS-GLI-00008-000" / "BraTS-GLI-00008-000-t1c.nii.gz").unlink()
    said = CliRunner().invoke(
        app, ["cohort", "add", str(tmp_path / "cohort"), "--from-nifti", str(tmp_path / "brats"), "--simulate-low-dose"]
    )
    assert said.exit_code == 1
    (entry,) = left_out(tmp_path / "cohort")
    assert "it has no adc" in entry.why and "it has no full_dose (t1c or t1ce or t1gd)" in entry.why
