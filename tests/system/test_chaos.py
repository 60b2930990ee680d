"""kill -9 in every phase of a study's life: nothing that was acknowledged is lost, and one series comes out, once."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from benchmarks.chaos.plan import Plan
from benchmarks.chaos.run import run_chaos
from node.database import open_database
from node.deliver import SENDING
from node.scu import StorageScu
from node.sender import Outgoing, SendError
from node.states import State
from node.tables import Delivery, Instance, Study
from simulator.archive.faults import Faults
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)


def state(engine: Engine) -> str | None:
    with Session(engine) as session:
        return session.scalar(select(Study.state))


def delivery_state(engine: Engine) -> str | None:
    with Session(engine) as session:
        return session.scalar(select(Delivery.state))


def test_a_study_survives_a_kill_in_every_phase(make_config: ConfigMaker, glioma: list[Path], tmp_path: Path):
    config = make_config(
        required='["t1", "flair", "low_dose"]', recovery_attempts=10, delivery__first_retry_seconds=1.0
    )
    node = NodeProcess(config)
    engine = open_database(node.settings)
    known = Peer(node.settings.node.ae_title, "127.0.0.1", node.settings.receiver.port)
    archive = Archive("PACS", node.settings.destination[0].port, tmp_path / "archive", peers=[known])
    # The last answer is held back, so that there is a moment between sending and knowing.
    archive.order(Faults(hang_seconds=3.0))
    with archive:
        node.start()
        acknowledged = _kill_while_receiving(node, engine, glioma)
        node.start()
        assert acknowledged <= {row.sop_instance_uid for row in _instances(engine)}
        node.send(glioma)  # what any PACS does with what was not acknowledged, and with the rest
        for phase in (State.CONVERTING, State.PREPARING, State.SYNTHESISING, State.DERIVING):
            eventually(lambda phase=phase: state(engine) == phase, 240, every=0.01)
            node.kill()
            node.start()
        # The instance is on its way, and the archive has not answered: the node cannot know whether it arrived.
        eventually(lambda: delivery_state(engine) == SENDING, 60, every=0.01)
        time.sleep(1.0)
        node.kill()
        eventually(archive.received, 10)
        node.start()
        with node:  # it runs already; stopped at the end
            eventually(lambda: state(engine) == State.DELIVERED, 120)
            report = node.study(node.studies()[0]["key"])
    assert len(_instances(engine)) == len(glioma), "none missing, none twice"
    assert [series["kind"] for series in report["derived"]] == ["enhanced_mr"]
    [delivery] = report["derived"][0]["deliveries"]
    assert delivery["state"] == "COMMITTED"
    assert archive.received() == {delivery["sop_instance_uid"]: 1}


def test_nothing_is_lost_or_doubled_while_everything_fails_at_once(glioma: list[Path], tmp_path: Path):
    """The short form of ``python -m benchmarks.chaos``."""
    plan = Plan(
        seed=1, studies=6, complete=2, senders=3, kills=3, minutes=0.4, limit_minutes=12, fills=1,
        fill_seconds=(4.0, 6.0), locks=1, lock_seconds=(2.0, 4.0), outages=(10.0,), resets=0.8,
    )  # fmt: skip
    outcome = run_chaos(plan, glioma, tmp_path)
    print(outcome)
    assert outcome.verdict.wrong == ()
    assert outcome.verdict.committed + outcome.verdict.confirmed == plan.complete
    assert sum(count for fault, count in outcome.faults.items() if fault.startswith("kill")) == plan.kills
    assert outcome.starts > 1, "the main process was among those killed"
    assert outcome.resets[0].total() > 0, "connections were reset"


def _kill_while_receiving(node: NodeProcess, engine: Engine, files: list[Path]) -> set[str]:
    """Kill the node in the middle of a transfer; returns what it had acknowledged."""
    acknowledged: set[str] = set()

    def send() -> None:
        outgoing = [Outgoing.of(path) for path in files]
        with contextlib.suppress(SendError), StorageScu(node.peer, outgoing) as scu:
            for file in outgoing:
                scu.store(file)
                acknowledged.add(file.sop_instance_uid)

    sender = threading.Thread(target=send)
    sender.start()
    eventually(lambda: len(_instances(engine)) >= 20, 60, every=0.01)
    node.kill()
    sender.join(timeout=60)
    assert 20 <= len(acknowledged) < len(files), "it was killed in the middle"
    return acknowledged


def _instances(engine: Engine) -> list[Instance]:
    with Session(engine) as session:
        return list(session.scalars(select(Instance)))
