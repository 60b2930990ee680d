"""The database at its door: a schema that is there whole or not at all, and transactions that hold what they read."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from node.database import current_revision, newest_revision, open_database, ready, writing
from node.states import State
from node.tables import Study, Table


def test_an_interrupted_first_start_is_repeated(settings, monkeypatch):
    engine = open_database(settings)
    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.create_table", _fail_at(3))
        with pytest.raises(KeyboardInterrupt):
            ready(engine)
    assert current_revision(engine) is None
    ready(engine)
    assert current_revision(engine) == newest_revision()
    assert set(Table.metadata.tables) <= set(inspect(engine).get_table_names())


def _fail_at(count: int):  # type: ignore[no-untyped-def]
    import alembic.op

    real, calls = alembic.op.create_table, []

    def create(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    return create


def test_what_is_read_in_a_writing_transaction_is_not_changed_by_others(engine):
    with Session(engine) as session, session.begin():
        session.add(
            Study(key="k", study_instance_uid="1", patient_id="", accession_number="", study_date="",
                  state=State.RECEIVING, reason="0")
        )  # fmt: skip

    def count() -> None:
        for _ in range(50):
            with writing(engine) as session:
                study = session.scalars(select(Study)).one()
                study.reason = str(int(study.reason) + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(engine) as session:
        assert session.scalars(select(Study.reason)).one() == "200"
