"""One simulated patient and one written study that the tests of this folder share: making them takes seconds."""

from __future__ import annotations

import pytest

from simulator.lesions import Condition
from simulator.scanner import Layout, Scanner
from simulator.study import StudyFiles, write_study
from simulator.subject import Subject, SubjectSettings, simulate_subject

# Thick partitions make a third of the files; nothing else differs.
SCANNER = Scanner(layout=Layout.MOSAIC, scanner_adc=True, t1_slice_mm=3.6)


@pytest.fixture(scope="session")
def subject() -> Subject:
    """A patient with a glioblastoma, on the phantom that needs no files."""
    return simulate_subject(7, settings=SubjectSettings(condition=Condition.GLIOBLASTOMA))


@pytest.fixture(scope="session")
def study(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """That patient on a Siemens scanner with mosaics and an ADC map."""
    return write_study(subject, tmp_path_factory.mktemp("study"), SCANNER)
