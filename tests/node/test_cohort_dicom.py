"""A cohort from a folder of DICOM studies: whose study it is, what it lacks, and what one becomes."""

import shutil

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from node.cohort_dicom import from_dicom
from node.cohort_lesions import enhancing_lesions
from node.cohort_subject import Preparing
from preprocessing.role import Role

PAIR = (Role.T1, Role.LOW_DOSE)


@pytest.fixture
def study(phantom_study):
    return phantom_study.folder


def sessions(settings, folder, roles=PAIR):
    return list(from_dicom(folder, settings.roles, Preparing.of(settings, roles, lambda *_: None)))


def test_a_study_is_found_in_any_nesting_and_joins_with_its_lesions_and_its_verdict(settings, study, tmp_path):
    shutil.copytree(study, tmp_path / "disc" / "deep" / "er")
    shutil.copytree(next(study.glob("*_t1")), tmp_path / "disc" / "the same again")
    (tmp_path / "disc" / "README.txt").write_text("not DICOM")
    (session,) = sessions(settings, tmp_path / "disc")
    header = dcmread(next(study.glob("*_t1/*.dcm")), stop_before_pixels=True)
    assert session.lacks == ()
    assert session.date == header.StudyDate
    assert str(header.PatientID) not in session.name + session.patient

    subject = session.load()
    assert subject.quality.startswith("accept")
    change = (subject.target.astype(np.float32) - subject.input[0])[subject.brain]
    inside = subject.lesion[subject.brain]
    truth = nibabel.load(study / "lesion.nii.gz")
    true_ml = float(np.asarray(truth.dataobj).sum() * np.prod(truth.header.get_zooms())) / 1000
    assert inside.sum() / 1000 == pytest.approx(true_ml, rel=0.5)  # the phantom's head is scaled to the template's
    assert change[inside].mean() > change[~inside].mean() + 0.2


def test_what_a_study_lacks_is_said_and_so_is_an_empty_folder(settings, study, tmp_path):
    shutil.copytree(study, tmp_path / "short")
    shutil.rmtree(next((tmp_path / "short").glob("*_full_dose")))
    (session,) = sessions(settings, tmp_path / "short", (*PAIR, Role.ADC))
    assert session.lacks == ("full_dose: no T1-weighted series after the full dose",)
    next((tmp_path / "short").glob("*_low_dose/0020.dcm")).unlink()
    (session,) = sessions(settings, tmp_path / "short")
    assert any(lack.startswith("low_dose") and "missing" in lack for lack in session.lacks)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="no DICOM file"):
        sessions(settings, tmp_path / "nothing")


def test_the_segmentation_is_the_mask_it_was_drawn_from_and_other_segments_are_not_taken(study, tmp_path):
    (drawn,) = study.glob("90_lesion/*.dcm")
    (mask,) = enhancing_lesions([drawn])
    truth = nibabel.load(study / "lesion.nii.gz")
    assert mask.array.sum() == np.asarray(truth.dataobj).sum() > 0
    centre = np.append(np.argwhere(mask.array).mean(axis=0)[::-1], 1) @ mask.geometry.affine.T
    expected = np.append(np.argwhere(np.asarray(truth.dataobj)).mean(axis=0), 1) @ truth.affine.T
    np.testing.assert_allclose(centre[:3] * (-1, -1, 1), expected[:3], atol=0.01)  # LPS and RAS

    other = dcmread(drawn)
    other.SegmentSequence[0].SegmentLabel = "brain"
    other.save_as(tmp_path / "brain.dcm")
    assert enhancing_lesions([tmp_path / "brain.dcm"]) == ()
    del other.PerFrameFunctionalGroupsSequence
    other.SegmentSequence[0].SegmentLabel = "enhancing"
    other.save_as(tmp_path / "broken.dcm")
    with pytest.raises(ValueError, match=r"broken.dcm cannot be read as a mask"):
        enhancing_lesions([tmp_path / "broken.dcm"])
