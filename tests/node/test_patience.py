"""Disk and database that take nothing just now are waited for; whatever else goes wrong is told at once."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from node.commit import Reports
from node.database import writing
from node.deliver import Deliverer
from node.engine import workflow_id
from node.patience import OutOfResourcesError, is_out_of_resources, patiently
from node.settings import Settings
from node.states import State, Trigger
from node.tables import Study
from node.worker import Worker
from node.workflow import Steps


def test_a_full_disk_is_waited_for(tmp_path: Path):
    places = iter([Path("/dev/full"), tmp_path / "file"])  # every write to the first fails: no space left on device
    patiently(lambda: next(places).write_bytes(b"x"), "writing")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_what_waiting_does_not_mend_is_raised_at_once(tmp_path: Path):
    tries = []

    def read() -> None:
        tries.append(1)
        (tmp_path / "nothing").read_bytes()

    with pytest.raises(FileNotFoundError):
        patiently(read, "reading")
    assert len(tries) == 1
    assert not is_out_of_resources(ValueError("no space left on device"))


def test_a_database_without_room_is_told_in_the_words_that_the_engine_waits_at(engine: Engine):
    from dbos._utils import retriable_sqlite_exception

    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE filling (content)"))
        connection.commit()
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(OperationalError, match="database or disk is full") as full:
            connection.execute(text("INSERT INTO filling VALUES (zeroblob(1000000))"))
        connection.rollback()
        connection.execute(text("PRAGMA max_page_count = 1000000"))
    assert retriable_sqlite_exception(full.value)
    assert is_out_of_resources(full.value)


class OnceFull(Worker):
    """A numeric process that has no room the first time."""

    turns = 0

    def run(self, step: str, study_id: int, cancelled: object) -> None:
        self.turns += 1
        if self.turns == 1:
            raise OutOfResourcesError("no space left on device")


def test_a_study_waits_while_disk_is_full_and_database_locked(settings: Settings, engine: Engine):
    with writing(engine) as session:
        study = Study(
            key="k", study_instance_uid="1.2", patient_id="", accession_number="", study_date="", run=1,
            state=State.QUEUED,
        )  # fmt: skip
        session.add(study)
        session.flush()
        run, study_id = workflow_id(study), study.id
    worker = OnceFull(settings)
    steps = Steps(settings, engine, worker, Deliverer(settings, engine, Reports(settings, engine)))
    lock = sqlite3.connect(str(engine.url.database), isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.0, lambda: lock.execute("ROLLBACK")).start()
    steps.numeric(run, study_id, Trigger.CONVERT, "convert")
    assert worker.turns == 2
    with Session(engine) as session:
        assert session.get_one(Study, study_id).state == State.CONVERTING
