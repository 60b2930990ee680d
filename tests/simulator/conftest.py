"""One simulated patient and one written study that the tests of this folder share: making them takes seconds."""

from __future__ import annotations

import pytest

from simulator.study import StudyFiles
from simulator.subject import Subject
from tests.conftest import SCANNER

__all__ = ["SCANNER"]


@pytest.fixture(scope="session")
def subject(phantom: Subject) -> Subject:
    """A patient with a glioblastoma."""
    return phantom


@pytest.fixture(scope="session")
def study(phantom_study: StudyFiles) -> StudyFiles:
    """That patient on a Siemens scanner with mosaics and an ADC map."""
    return phantom_study
