"""What a header says of the patient and the request, for the rules of a site."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.header.instance import InstanceHeader, scan
from tests.mr_slices import mr_slice

REAL = Path(__file__).parents[3] / "shared/data/real/siemens_xa30"


def seen(**elements: object) -> InstanceHeader:
    target = BytesIO()
    mr_slice("t1", 1, **elements).save_as(target, enforce_file_format=True)
    target.seek(0)
    return scan(target)


@pytest.mark.parametrize(
    ("elements", "years"),
    [
        ({"PatientAge": "034Y"}, 34), ({"PatientAge": "018M"}, 1), ({"PatientAge": "030D"}, 0),
        ({"PatientAge": "051W"}, 0), ({"PatientAge": "053W"}, 1),
        ({"PatientBirthDate": "20080103"}, 17), ({"PatientBirthDate": "20080102"}, 18),  # the study: 2026-01-02
        ({"PatientBirthDate": "20080102", "PatientAge": "017Y"}, 17), ({"PatientBirthDate": "20270101"}, None),
        ({"PatientBirthDate": "20080230"}, None), ({"PatientAge": "old"}, None), ({}, None),
    ],
)  # fmt: skip
def test_the_age_in_completed_years(elements, years):
    assert seen(**elements).patient_age_years == years


def test_study_body_part_and_priority():
    request = Dataset()
    request.RequestedProcedurePriority = "STAT"
    header = seen(StudyDescription="MR Brain", BodyPartExamined="HEAD", RequestAttributesSequence=[request])
    assert (header.study_description, header.body_part, header.requested_priority) == ("MR Brain", "HEAD", "STAT")
    assert seen(RequestedProcedurePriority="HIGH", RequestAttributesSequence=[request]).requested_priority == "HIGH"
    assert seen().requested_priority == ""


def test_the_part_of_an_enhanced_instance_is_its_anatomic_region():
    region, anatomy, shared = Dataset(), Dataset(), Dataset()
    region.CodeMeaning = "Brain"
    anatomy.AnatomicRegionSequence = [region]
    shared.FrameAnatomySequence = [anatomy]
    assert seen(SharedFunctionalGroupsSequence=[shared]).body_part == "Brain"


def test_a_real_scanner_says_them():
    header = scan(min((REAL / "t1").iterdir()))
    assert (header.patient_age_years, header.body_part) == (31, "BRAIN")
    assert header.study_description == "Cheng test"
