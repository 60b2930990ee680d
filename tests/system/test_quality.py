"""A study that quality control rejects is not synthesised; a person accepts it, and the virtual series says so.

Two models are tried on it meanwhile, one of them damaged: this test has the numeric steps anyway, which cost minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from model.card import ModelCard
from model.store import WEIGHTS
from node.files import DataFolder
from node.states import State
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.model.test_store import write_model
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@dataclass(frozen=True)
class Shadows:
    """Two models that the node is told to try, both of the smallest network: the first one's copy was then damaged."""

    damaged: str
    tried: str

    @classmethod
    def decided(cls, node: NodeProcess, folder: Path) -> Shadows:
        digests = []
        for name, seed in (("damaged", 0), ("tried", 1)):
            write_model(folder / name, seed=seed, channels=2)
            node.quarterdose("models", "shadow", str(folder / name), "--because", "to see")
            digests.append(ModelCard.read(folder / name).weights_sha256)
        (DataFolder(node.settings.node.data).model(digests[0]) / WEIGHTS).write_bytes(b"rotten")
        return cls(*digests)

    def check(self, node: NodeProcess, key: str, virtual: FileDataset) -> None:
        """The one was compared, the other left its event, and nothing of either reached the study."""

        def what_failed() -> list[str]:
            return [event["why"] for event in node.study(key)["events"] if event["what"] == "a shadow was not compared"]

        (why,) = eventually(what_failed, 200, every=2.0)
        assert f"the shadow tiny ({self.damaged[:12]})" in why and "not the file that its card describes" in why
        found = json.loads(node.quarterdose("models", "show", self.tried, "--json"))["shadow"]
        assert (found["studies"], found["farthest_study"]) == (1, key)
        assert 10 < found["psnr"] < 60 and found["seconds"] > 0
        report = node.study(key)
        assert report["state"] == State.DELIVERED
        assert len(report["derived"]) == 1
        made_by = str(virtual.ContributingEquipmentSequence)
        assert not any(digest[:12] in made_by for digest in (self.damaged, self.tried))


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
        shadows = Shadows.decided(node, tmp_path)  # of a node that is running
        assert not report["derived"]
        shown = command("studies", "show", key, "--config", str(config)).stdout
        assert "Quality" in shown

        done = command("studies", "accept", key, "--because", "a large head", "--config", str(config))
        assert done.returncode == 0, done.stderr
        eventually(lambda: node.study(key)["state"] in (State.FAILED, State.DELIVERED), 300, every=1.0)
        report = json.loads(command("studies", "show", key, "--json", "--config", str(config)).stdout)
        [held] = archive.index.of_study(report["study_instance_uid"])
        virtual = dcmread(held.path, stop_before_pixels=True)
        shadows.check(node, key, virtual)
        assert archive.index.of_study(report["study_instance_uid"]) == (held,), "one result and no other"
    assert report["state"] == State.DELIVERED, report["reason"]
    assert report["quality"]["accepted_because"] == "a large head"
    assert any("a large head" in event["why"] and event["who"].startswith("person") for event in report["events"])
    moves = [event["what"] for event in report["events"]]
    assert moves.count("CONVERTING → PREPARING") == 1, "what was done is not done again"
    assert "a person accepted them: a large head" in virtual.ImageComments
    assert "brain volume" in virtual.ContributingEquipmentSequence[-1].ContributionDescription
