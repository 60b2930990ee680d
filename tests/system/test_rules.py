"""The rules of a site on the running node: what they turn away stays turned away, also when they are taken back."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ConfigMaker
from tests.mr_slices import mr_slice
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

RULES = """
[[rule]]
name = "knee"
study_description = "knee"
process = false
reason = "only brains"

[[rule]]
name = "everything else"
"""


def test_a_decision_outlives_kill_9_and_the_rule_that_made_it(make_config: ConfigMaker, tmp_path: Path) -> None:
    config = make_config()
    without_rules = config.read_text()
    config.write_text(without_rules + RULES)
    files = [tmp_path / f"{number}.dcm" for number in range(1, 7)]
    for number, path in enumerate(files, 1):
        mr_slice("knee", number, StudyDescription="Knee left").save_as(path, enforce_file_format=True)
    with NodeProcess(config) as node:
        node.send(files)
        eventually(lambda: [study["state"] for study in node.studies()] == ["CANCELLED"], 30)
        node.kill()
        config.write_text(without_rules)
        node.start()
        (study,) = node.studies()
        shown = node.study(study["key"])
    assert (shown["state"], shown["route"]["rule"]) == ("CANCELLED", "knee")
    assert shown["reason"] == 'not processed by the rule "knee": only brains'
    assert shown["events"][-1]["what"] == "RECEIVING → CANCELLED"
