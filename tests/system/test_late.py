"""Late instances in a running node: a run is ended, a delivered result superseded, and the PACS gets each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import open_database
from node.states import State
from node.tables import Study
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)


def test_a_run_is_ended_and_a_result_superseded_by_what_comes_late(
    make_config: ConfigMaker, glioma: list[Path], tmp_path: Path
):
    files = [path for path in glioma if "flair" not in path.parent.name]
    t1 = [path for path in files if path.parent.name.endswith("t1")]
    node = NodeProcess(make_config(required='["t1", "low_dose"]', quiet_seconds=2.0))
    engine = open_database(node.settings)
    known = Peer(node.settings.node.ae_title, "127.0.0.1", node.settings.receiver.port)
    place = node.settings.destination[0]
    with Archive("PACS", place.port, tmp_path / "archive", peers=[known]) as archive, node:
        node.send(files)
        eventually(lambda: reached(engine, State.PREPARING, run=1), 60, every=0.1)
        node.send([heavier(path, 71, tmp_path) for path in t1])
        eventually(lambda: reached(engine, State.DELIVERED, run=2), 240, every=0.2)
        first = node.study(key := node.studies()[0]["key"])
        moves = [(event["what"], event["why"]) for event in first["events"]]
        assert ("PREPARING → RECEIVING", "late instances: there is something new of t1") in moves
        assert [len(series["deliveries"]) for series in first["derived"]] == [1], "nothing was made by the first run"
        assert len(archive.received()) == 1
        [chosen] = [event["why"] for event in first["events"] if event["what"] == "model"]
        assert "c8_t1_low_dose takes t1, low_dose; without flair, adc: on the 7 subjects that" in chosen
        node.send(files)  # byte for byte what came before
        node.send([heavier(path, 72, tmp_path) for path in t1])
        eventually(lambda: reached(engine, State.DELIVERED, run=3), 240, every=0.2)
        last = node.study(key)
        old, new = last["derived"]
        assert (old["superseded_by"], new["superseded_by"]) == (new["series_instance_uid"], "")
        assert [old["series_instance_uid"]] == [series["series_instance_uid"] for series in first["derived"]]
        assert sorted(archive.received().values()) == [1, 1], "each result once"
        shown = node.quarterdose("studies", "show", key)
    assert "result superseded" in [event["what"] for event in last["events"]]
    assert f"by: {new['series_instance_uid']}" in shown


def reached(engine: Engine, state: State, run: int) -> bool:
    with Session(engine) as session:
        found = session.execute(select(Study.state, Study.run, Study.reason)).one_or_none()
    if found is None:
        return False
    assert found.state not in (State.FAILED, State.REJECTED, State.INCOMPLETE), found.reason
    return (found.state, found.run) == (state, run)


def heavier(path: Path, weight: int, folder: Path) -> Path:
    """The same instance corrected at the PACS: other bytes under the same SOP Instance UID."""
    dataset = dcmread(path)
    dataset.PatientWeight = weight
    dataset.save_as(folder / path.name)
    return folder / path.name
