"""A running node without a source and a destination that something waits for: told at its start."""

from __future__ import annotations

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.database import open_database, ready
from node.engine import WorkStarter
from node.retrieve import request
from node.settings import load_settings
from node.tables import Study
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY
from tests.node.delivering import to_deliver
from tests.system.node_process import NodeProcess
from tests.waiting import eventually


def test_what_waits_for_what_is_gone_ends_with_a_reason_and_may_be_cancelled_before(make_config: ConfigMaker):
    config = make_config()
    settings = load_settings(config)
    engine = open_database(settings)
    ready(engine)
    to_deliver(settings, engine)
    with Session(engine) as session, session.begin():
        session.scalars(select(Study)).one().unjudged = False
        unwanted, waiting = (
            request(session, WorkStarter(engine), STUDY, source, "person tester", "asked for").id
            for source in ("old", "older")
        )
    config.write_text(config.read_text().replace('name = "pacs"', 'name = "new"'))
    node = NodeProcess(config)
    node.quarterdose("pulls", "cancel", str(unwanted))
    with node:
        eventually(lambda: node.study("k")["state"] == "FAILED", 20)
        assert "pacs is gone; put it back" in node.study("k")["reason"]
        pulls = {row["number"]: row for row in json.loads(node.quarterdose("pulls", "list", "--json"))}
        assert pulls[unwanted]["state"] == "CANCELLED"
        assert pulls[waiting]["state"] == "FAILED"
        assert "put it into the configuration and restart" in pulls[waiting]["why"]
