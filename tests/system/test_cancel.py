"""A person cancels a study in the middle of its heaviest step, and takes it up again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from node.states import State
from tests.conftest import ConfigMaker
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def test_a_cancelled_study_stops_at_once_and_resumes_at_the_step_it_was_in(
    make_config: ConfigMaker, glioma: list[Path]
):
    with NodeProcess(make_config(required='["t1", "flair", "low_dose"]')) as node:
        node.send(glioma)
        key = eventually(node.studies, 30, every=0.5)[0]["key"]
        eventually(lambda: node.study(key)["state"] == State.PREPARING, 60, every=0.2)
        node.quarterdose("studies", "cancel", key)
        time.sleep(2)
        assert node.study(key)["state"] == State.CANCELLED
        assert node.study(key)["doing"] == "", "nothing goes on behind its back"
        assert "from the step" in node.quarterdose("studies", "retry", key)
        eventually(lambda: node.study(key)["state"] == State.PREPARING, 30, every=0.2)
        steps = [event["what"] for event in node.study(key)["events"]]
    assert steps[-2:] == ["CANCELLED → QUEUED", "QUEUED → PREPARING"], "converting was not repeated"
    told = node.log.read_text()
    assert "Traceback" not in told, "that a person cancels is nothing unexpected"
    assert "-run-1 was cancelled" in told
