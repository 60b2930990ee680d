"""A study that quality control rejects is not synthesised; a person accepts it, and the virtual series says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from node.states import State
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_rejected_study_waits_until_a_person_accepts_it(make_config: ConfigMaker, glioma: list[Path], tmp_path: Path):
    # No head is as large as this, so that a good patient is rejected.
    config = make_config(required='["t1", "flair", "low_dose"]', brain_volume="{ reject_below = 5000.0 }")
    node = NodeProcess(config)
    with Archive("PACS", node.settings.destination[0].port, tmp_path / "archive") as archive, node:
        node.send(glioma)
        key = eventually(node.studies, 30, every=0.5)[0]["key"]
        eventually(lambda: node.study(key)["state"] in (State.REJECTED, State.FAILED, State.DELIVERED), 600, every=1.0)
        report = node.study(key)
        assert report["state"] == State.REJECTED, report["reason"]
        assert "brain volume" in report["reason"]
        assert report["quality"]["verdict"] == "reject"
        assert not report["derived"]
        shown = command("studies", "show", key, "--config", str(config)).stdout
        assert "Quality" in shown

        done = command("studies", "accept", key, "--because", "a large head", "--config", str(config))
        assert done.returncode == 0, done.stderr
        eventually(lambda: node.study(key)["state"] in (State.FAILED, State.DELIVERED), 300, every=1.0)
        report = json.loads(command("studies", "show", key, "--json", "--config", str(config)).stdout)
    assert report["state"] == State.DELIVERED, report["reason"]
    assert report["quality"]["accepted_because"] == "a large head"
    assert any("a large head" in event["why"] and event["who"].startswith("person") for event in report["events"])
    moves = [event["what"] for event in report["events"]]
    assert moves.count("CONVERTING → PREPARING") == 1, "what was done is not done again"
    virtual = dcmread(archive.index.of_study(report["study_instance_uid"])[0].path, stop_before_pixels=True)
    assert "a person accepted them: a large head" in virtual.ImageComments
    assert "brain volume" in virtual.ContributingEquipmentSequence[-1].ContributionDescription
