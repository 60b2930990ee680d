"""A volunteer's Enhanced MR series from a Siemens XA30: received, given roles, converted and prepared as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from node.files import DataFolder
from node.states import State
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role
from tests.conftest import ROOT, ConfigMaker
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)

XA30 = ROOT.parent / "shared" / "data" / "real" / "siemens_xa30"


def low_dose_of(t1: Path, path: Path) -> Path:
    """The volunteer had no injection: the T1 once more, marked as acquired after one."""
    dataset = dcmread(t1)
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["low dose series"])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["low dose"])
    dataset.SeriesNumber = 99
    dataset.AcquisitionDateTime = dataset.AcquisitionDateTime[:8] + "235900"
    agent = Dataset()
    agent.ContrastBolusAgentNumber, agent.ContrastBolusVolume = 1, 3.5
    dataset.ContrastBolusAgentSequence = [agent]
    dataset.ContrastBolusAgent = "gadoterate"
    dataset.save_as(path)
    return path


def test_enhanced_series_of_a_real_scanner_are_prepared(make_config: ConfigMaker, tmp_path: Path):
    assert XA30.is_dir(), f"the shared data are not at {XA30}"
    files = sorted(XA30.rglob("*.dcm"))
    files.append(low_dose_of(next((XA30 / "t1").iterdir()), tmp_path / "low.dcm"))
    with NodeProcess(make_config(required='["t1", "adc", "low_dose"]')) as node:
        node.send(files)
        key = eventually(node.studies, 30, every=0.5)[0]["key"]
        eventually(lambda: node.study(key)["state"] in _PREPARED, 400, every=1.0)
        report = node.study(key)
    assert report["state"] != State.FAILED or "prepared" not in report["reason"], report["reason"]
    (reason,) = report["quality"]["reasons"]  # the one thing that is not as it should be: nothing was injected
    assert reason.startswith("enhancement of low-dose over T1: 0.0 % of white matter")
    roles = {series["number"]: series["role"] for series in report["series"]}
    assert roles == {6: "t1", 10: "dwi", 11: "adc", 12: None, 99: "low_dose"}
    prepared = PreparedStudy.load(DataFolder(node.settings.node.data).work(key, 1).prepared)
    assert prepared.channels == (Role.T1, Role.ADC, Role.LOW_DOSE)
    scale = prepared.scales[Role.ADC]
    adc = scale.from_unit(prepared.input[1])[prepared.brain & (prepared.input[1] > 0)]
    assert 0.6e-3 < np.median(adc) < 1.0e-3, "mm²/s, as brain has"
    t1, low_dose = prepared.input[0][prepared.brain], prepared.input[2][prepared.brain]
    assert np.corrcoef(t1, low_dose)[0, 1] > 0.99, "the same image twice lies in one place"


_PREPARED = (State.SYNTHESISING, State.DERIVING, State.DELIVERING, State.DELIVERED, State.REJECTED, State.FAILED)
