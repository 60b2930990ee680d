"""The running node fetches a patient's earlier studies once today's is complete, and leaves them alone."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import open_database
from node.states import State
from node.tables import Run, Study
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.node.collecting import low_dose, t1
from tests.system.node_process import NodeProcess
from tests.waiting import eventually

_EARLIER = {"1.2.30": "20250630", "1.2.31": "20240101"}


def test_the_priors_of_a_study_are_fetched_and_not_processed(make_config: ConfigMaker, tmp_path: Path):
    priors = "priors = { newest = 2, years = 5 }"
    node = NodeProcess(make_config(
        required='["t1", "low_dose"]', source__retrieve=f'"c-move"\n{priors}',
    ))  # fmt: skip
    today = [*t1(), *low_dose()]
    files = [tmp_path / f"{number}.dcm" for number in range(len(today))]
    for path, dataset in zip(files, today, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    known = Peer(node.settings.node.ae_title, "127.0.0.1", node.settings.receiver.port)
    with Archive("PACS", node.settings.source[0].port, tmp_path / "archive", peers=[known]) as archive:
        for uid, day in _EARLIER.items():
            for number in range(1, 25):
                buffer = BytesIO()
                dcmwrite(buffer, mr_slice("t1", number, study=uid, StudyDate=day), enforce_file_format=True)
                archive.index.add(buffer.getvalue())
        with node:
            engine = open_database(node.settings)
            node.send(files)
            eventually(lambda: list(states(engine).values()).count(State.PRIOR) == 2, 60, every=0.2)
            node.kill()
    assert {uid for uid, state in states(engine).items() if state == State.PRIOR} == set(_EARLIER)
    assert states(engine)[STUDY] not in (State.PRIOR, State.RECEIVING, State.INCOMPLETE)
    with Session(engine) as session:
        processed = select(Study.study_instance_uid).join(Run, Run.study_id == Study.id)
        assert set(session.scalars(processed)) == {STUDY}


def states(engine: Engine) -> dict[str, str]:
    with Session(engine) as session:
        return {study.study_instance_uid: study.state for study in session.scalars(select(Study))}
