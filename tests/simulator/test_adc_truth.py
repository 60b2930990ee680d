"""The ADC that comes out of written DICOM, beside the truth that went in."""

from __future__ import annotations

import pytest

from benchmarks.adc_truth import agreements
from simulator.study import StudyFiles
from simulator.subject import Subject
from simulator.tissue import Tissue
from tests.simulator.conftest import SCANNER


def test_each_tissues_adc_is_within_two_percent(study: StudyFiles, subject: Subject) -> None:
    found = {one.tissue: one for one in agreements(subject, SCANNER, study)}
    assert found.keys() >= {Tissue.WHITE, Tissue.DEEP_GREY, Tissue.OEDEMA, Tissue.NECROSIS}
    for tissue, one in found.items():
        assert one.fitted == pytest.approx(one.truth, rel=0.02), tissue.name
        assert one.scanner == pytest.approx(one.truth, rel=0.02), tissue.name
