"""The whole path through a real Orthanc: a simulated patient by the demonstration, a real one by DCMTK's storescu."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from node.states import State
from preprocessing.convert import convert_series
from simulator.orthanc import OrthancProcess
from tests.conftest import ConfigMaker, free_port, require
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)

_PACS_IS_DOWN_SECONDS = 60


def test_the_demonstration_runs_against_a_real_orthanc(make_config: ConfigMaker, tmp_path: Path):
    require("Orthanc")
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "node.cli", "demo", "--pacs", "orthanc", "--out", str(out)]
    done = subprocess.run(
        [*command, "--config", str(make_config())], capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DELIVERING → DELIVERED" in done.stdout
    assert (out / "panel.png").read_bytes().startswith(b"\x89PNG")
    [(virtual, low_dose)] = re.findall(r"virtual ([\d.]+) dB, low dose as it is ([\d.]+) dB", done.stdout)
    assert float(virtual) > float(low_dose) + 3, "held against a full dose that lies where the inputs lie"


def test_a_real_patient_goes_through_orthanc_and_back_though_it_is_down_for_a_minute(
    make_config: ConfigMaker, glioma: list[Path], tmp_path: Path
):
    config = make_config(
        required='["t1", "flair", "low_dose"]', delivery__first_retry_seconds=2.0, delivery__longest_retry_seconds=5.0
    )
    with NodeProcess(config) as node:
        place = node.settings.destination[0]
        orthanc = OrthancProcess(
            tmp_path / "orthanc", place.ae_title, place.port, free_port(), node.settings.receiver.port,
            peers={"STORESCU": free_port()},
        )  # fmt: skip
        with orthanc:
            command = [require("storescu"), "-aet", "STORESCU", "-aec", place.ae_title, "127.0.0.1", str(place.port)]
            subprocess.run([*command, *map(str, glioma)], check=True, timeout=120)
            eventually(lambda: node.studies() and node.studies()[0]["state"] not in _COLLECTING, 60, every=0.5)
        # The PACS is down before there is a result, and for a minute after.
        key = node.studies()[0]["key"]
        eventually(lambda: "cannot be reached" in node.study(key)["doing"], 400, every=1.0)
        time.sleep(_PACS_IS_DOWN_SECONDS)
        assert node.study(key)["state"] == State.DELIVERING
        with orthanc:
            eventually(lambda: node.study(key)["state"] == State.DELIVERED, 60, every=0.5)
            report = node.study(key)
            held = orthanc.instances(report["study_instance_uid"])
            [delivery] = report["derived"][0]["deliveries"]
            assert delivery["state"] == "COMMITTED", "Orthanc answered the request for storage commitment"
            ours = delivery["sop_instance_uid"]
            [found] = [instance for instance in held if instance["MainDicomTags"]["SOPInstanceUID"] == ours]
            virtual = dcmread(BytesIO(orthanc.get_bytes(f"/instances/{found['ID']}/file")))
            time.sleep(5)  # longer than Orthanc's stable age: had it routed our own series back, it would be here
            assert node.study(key)["run"] == 1
    assert len(held) == len(glioma) + 1
    path = tmp_path / "virtual.dcm"
    virtual.save_as(path)
    low_dose = _number(report, "low_dose")
    _check_it_lines_up(path, [file for file in glioma if dcmread(file).SeriesNumber == low_dose])
    valid = subprocess.run([require("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in valid.stdout + valid.stderr, valid.stderr
    print(json.dumps(report["series"], indent=1))


_COLLECTING = (State.RECEIVING, State.INCOMPLETE)


def _number(report: dict[str, list[dict[str, object]]], role: str) -> object:
    return next(series["number"] for series in report["series"] if series["role"] == role)


def _check_it_lines_up(virtual: Path, low_dose: list[Path]) -> None:
    """Same grid, same Frame of Reference, and brain where the low-dose series has brain."""
    made, source = convert_series([virtual]).volumes[0], convert_series(low_dose).volumes[0]
    assert made.geometry.frame_of_reference_uid == source.geometry.frame_of_reference_uid
    assert made.geometry.size == source.geometry.size
    np.testing.assert_allclose(made.geometry.affine, source.geometry.affine, atol=1e-3)
    inside = made.array > 0
    assert 0.9e6 < inside.sum() * np.prod(made.geometry.spacing) < 2.0e6, "a brain's volume in mm³"
    assert np.corrcoef(made.array[inside], source.array[inside])[0, 1] > 0.8
