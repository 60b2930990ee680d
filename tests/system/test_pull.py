"""A study fetched from a PACS by the command line, though the node is killed in the middle of it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmwrite

from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

_INSTANCES = 400


@pytest.mark.parametrize("way", ["c-move", "c-get"])
def test_a_pull_survives_a_kill_and_says_what_arrived(make_config: ConfigMaker, tmp_path: Path, way: str):
    node = NodeProcess(make_config(retrieval__first_retry_seconds=0.5, source__retrieve=f'"{way}"'))
    known = Peer(node.settings.node.ae_title, "127.0.0.1", node.settings.receiver.port)
    with Archive("PACS", node.settings.source[0].port, tmp_path / "archive", peers=[known]) as archive:
        for number in range(_INSTANCES):
            buffer = BytesIO()
            dcmwrite(buffer, mr_slice("T1", number, count=_INSTANCES), enforce_file_format=True)
            archive.index.add(buffer.getvalue())
        node.start()
        [found] = json.loads(node.quarterdose("pull", "--accession", "A1", "--dry-run", "--json"))
        assert found["study_instance_uid"] == STUDY
        [asked] = json.loads(node.quarterdose("pull", "--accession", "A1", "--json"))
        assert asked["state"] == "QUEUED"
        eventually(lambda: any(study["instances"] > 20 for study in node.studies()), 30, every=0.1)
        node.kill()
        node.start()
        with node:
            eventually(lambda: pulls(node)[0]["state"] == "DONE", 60, every=0.3)
            assert (pulls(node)[0]["arrived"], pulls(node)[0]["expected"]) == (_INSTANCES, _INSTANCES)
            assert node.studies()[0]["instances"] == _INSTANCES
            again = node.quarterdose("pull", "--study", STUDY, "--wait")
            assert "DONE" in again


def pulls(node: NodeProcess) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(node.quarterdose("pulls", "list", "--json"))
    return listed


def test_what_cannot_be_pulled_is_said_at_once(make_config: ConfigMaker, tmp_path: Path):
    node = NodeProcess(make_config())
    assert "say what to fetch" in node.quarterdose("pull", code=2)
    assert "DICOM keyword" in node.quarterdose("pull", "--query", "Colour=red", code=2)
    assert "cannot be reached" in node.quarterdose("pull", "--study", STUDY, code=1)
    with Archive("PACS", node.settings.source[0].port, tmp_path / "archive"):
        assert "holds no study that matches" in node.quarterdose("pull", "--study", STUDY, code=1)
        assert "no [[source]] of the configuration" in node.quarterdose("pull", "--study", STUDY, "--from", "x", code=2)
