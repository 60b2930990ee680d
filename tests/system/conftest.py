"""A real patient on the wire: the glioma of the shared data, wrapped in DICOM."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.nifti import wrap_nifti
from tests.conftest import ROOT

GLIOMA = ROOT.parent / "shared" / "data" / "real" / "glioma_tcga_fg_6692"


@pytest.fixture(scope="session")
def glioma(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Its T1, FLAIR and low-dose series (T1 + 0.3 (T1ce − T1), Rician noise) as DICOM files, without the full dose."""
    assert GLIOMA.is_dir(), f"the shared data are not at {GLIOMA}"
    study = wrap_nifti(
        GLIOMA / "t1.nii.gz", GLIOMA / "flair.nii.gz", GLIOMA / "t1ce.nii.gz", tmp_path_factory.mktemp("glioma")
    )
    return sorted(path for folder in (study.t1, study.flair, study.low_dose) for path in folder.glob("*.dcm"))
