"""What a newer result supersedes: the ledger tells, and nothing of it is sent after the newer one (a real archive)."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, insert, select
from sqlalchemy.orm import Session

from node.database import current_revision, newest_revision, open_database, ready, upgrade, writing
from node.ledger import ARRIVED, QUEUED, SENDING, SENT, SUPERSEDED, mark, supersede
from node.report import describe_study
from node.settings import Settings
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, Run, Study
from simulator.archive.faults import Faults
from simulator.archive.server import Archive
from tests.conftest import ROOT
from tests.mr_slices import STUDY, mr_slice
from tests.waiting import eventually


@pytest.fixture
def study(engine: Engine) -> int:
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid=STUDY, patient_id="", accession_number="", study_date="",
            state=State.DELIVERING, reason="",
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.id


def derive(engine: Engine, settings: Settings, inputs: str, instances: int = 2, weights: str = "w") -> str:
    """What the step of that name leaves in the tables for a run over ``inputs``; the series' UID."""
    datasets = [mr_slice(f"virtual of {inputs} by {weights}", n) for n in range(instances)]
    with writing(engine) as session:
        study = session.scalars(select(Study)).one()
        study.state, study.inputs_digest = State.DELIVERING, inputs
        uid = datasets[0].SeriesInstanceUID
        row = session.scalar(select(DerivedSeriesRow).where(DerivedSeriesRow.series_instance_uid == uid))
        if row is None:
            row = DerivedSeriesRow(
                study_id=study.id, series_instance_uid=uid, kind="enhanced_mr", model_digest=weights,
                inputs_digest=inputs,
            )  # fmt: skip
            session.add(row)
            session.flush()
            for dataset in datasets:
                dataset.save_as(settings.node.data / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
                session.add(
                    Delivery(
                        derived_series_id=row.id, destination="pacs", sop_class_uid=dataset.SOPClassUID,
                        sop_instance_uid=dataset.SOPInstanceUID, path=f"{dataset.SOPInstanceUID}.dcm",
                    )
                )  # fmt: skip
        session.flush()
        supersede(session, study, [row])
        return str(uid)


def ledger(engine: Engine) -> list[tuple[str, list[str]]]:
    """Of each result: what it is superseded by ("" for none), and the states of its deliveries."""
    with Session(engine) as session:
        shown = describe_study(session, session.scalars(select(Study)).one())
    return [(row["superseded_by"], [one["state"] for one in row["deliveries"]]) for row in shown["derived"]]


def sent(archive: Archive, series: str) -> int:
    return sum(held.series_uid == series for held in archive.index.all())


def test_what_was_not_sent_is_never_sent_after_a_newer_result(deliverer, engine, settings, study, archive):
    first = derive(engine, settings, "inputs of run 1")
    second = derive(engine, settings, "inputs of run 2")
    assert ledger(engine) == [(second, [SUPERSEDED] * 2), ("", [QUEUED] * 2)]
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert (sent(archive, first), sent(archive, second)) == (0, 2)
    with Session(engine) as session:
        shown = describe_study(session, session.get_one(Study, study))
    assert shown["state"] == State.DELIVERED
    [told] = [event["why"] for event in shown["events"] if event["what"] == "result superseded"]
    assert told == f"enhanced_mr {first} is superseded by {second}; not sent any more to pacs"


def test_what_was_sent_stays_where_it_is_and_is_told_to_be_superseded(deliverer, engine, settings, study, archive):
    first = derive(engine, settings, "inputs of run 1")
    assert deliverer.attempt(study, "pacs", 1) == ""
    second = derive(engine, settings, "inputs of run 2")
    third = derive(engine, settings, "inputs of run 2", weights="other weights")
    assert deliverer.attempt(study, "pacs", 1) == ""
    (by_second, states), (by_third, unsent), (current, newest) = ledger(engine)
    assert (by_second, by_third, current) == (second, third, "")
    assert set(states) <= ARRIVED
    assert unsent == [SUPERSEDED] * 2, "the same inputs by other weights are another result, too"
    assert set(newest) <= ARRIVED
    assert [sent(archive, uid) for uid in (first, second, third)] == [2, 0, 2]


def test_a_study_that_holds_again_what_it_held_has_its_first_result_again(deliverer, engine, settings, study, archive):
    first = derive(engine, settings, "inputs of run 1")
    derive(engine, settings, "inputs of run 2")
    assert derive(engine, settings, "inputs of run 1") == first
    assert ledger(engine) == [("", [QUEUED] * 2), (first, [SUPERSEDED] * 2)]
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert sent(archive, first) == 2


def test_an_attempt_under_way_ends_before_the_newer_result_goes(deliverer, engine, settings, study, archive):
    """The newer result is made while the archive takes its time over the first of two instances."""
    first = derive(engine, settings, "inputs of run 1")
    archive.order(Faults(hang_seconds=1.0))
    attempt = threading.Thread(target=deliverer.attempt, args=(study, "pacs", 1))
    attempt.start()
    eventually(lambda: ledger(engine) == [("", [SENDING, QUEUED])], 10, every=0.02)
    second = derive(engine, settings, "inputs of run 2")
    assert ledger(engine)[0] == (second, [SUPERSEDED] * 2)
    attempt.join()
    archive.order(Faults())
    assert ledger(engine)[0] == (second, [SENT, SUPERSEDED]), "the first one did arrive; the second never went"
    assert deliverer.attempt(study, "pacs", 2) == ""
    assert (sent(archive, first), sent(archive, second)) == (1, 2)


def test_what_is_superseded_is_not_marked_for_sending_again(engine, settings, study):
    derive(engine, settings, "inputs of run 1", instances=1)
    with Session(engine) as session:
        [row] = session.scalars(select(Delivery)).all()
    derive(engine, settings, "inputs of run 2", instances=1)
    for state in (QUEUED, SENDING):
        assert not mark(engine, [row], state, "refused")
        assert ledger(engine)[0][1] == [SUPERSEDED]


def test_an_older_database_learns_what_runs_work_on_and_what_is_superseded(settings: Settings) -> None:
    engine = open_database(settings)
    ready(engine)
    with engine.begin() as connection:
        downgrade(connection, "0004")
        tables = MetaData()
        tables.reflect(connection)
        for name, columns, rows in OLDER_ROWS:
            values = [dict(zip(columns.split(), row, strict=True)) for row in rows]
            connection.execute(insert(tables.tables[name]), values)
    assert current_revision(engine) == "0004"
    upgrade(engine)
    assert current_revision(engine) == newest_revision()
    with Session(engine) as session:
        [run] = session.scalars(select(Run)).all()
        assert (run.study_id, run.number, run.inputs_digest, run.inputs) == (1, 2, "new", {"t1": [2]})
        assert session.execute(select(DerivedSeriesRow.id, DerivedSeriesRow.superseded_by)).all() == [(1, 2), (2, None)]
        rows = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        assert [(row.state, row.settled is None) for row in rows] == [
            (SUPERSEDED, False), (SENT, False), (QUEUED, True),
        ]  # fmt: skip
    with engine.begin() as connection:
        downgrade(connection, "0004")
        assert connection.exec_driver_sql("SELECT count(*) FROM deliveries WHERE state = 'QUEUED'").scalar() == 2


def downgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "node/migrations"))
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


MOMENT = datetime(2026, 1, 2, 10)
OLDER_ROWS = (
    (
        "studies",
        "id key study_instance_uid patient_id accession_number study_date state reason missing missing_optional held "
        "doing progress run inputs_digest first_received last_received unjudged",
        [(1, "k", "1.2", "", "", "", "DELIVERING", "", [], [], [], "", 0.0, 2, "new", MOMENT, MOMENT, False)],
    ),
    (
        "series", "id study_id key series_instance_uid description modality role because",
        [(1, 1, "s", "1.2.1", "", "MR", "t1", ""), (2, 1, "x", "1.2.2", "", "MR", None, "")],
    ),
    (
        "instances", "id series_id sop_instance_uid version current digest path size sender received header",
        [
            (1, 1, "1.2.1.1", 1, False, "replaced", "", 1, "", MOMENT, {}),
            (2, 1, "1.2.1.1", 2, True, "current", "", 1, "", MOMENT, {}),
            (3, 2, "1.2.2.1", 1, True, "without a role", "", 1, "", MOMENT, {}),
        ],
    ),
    (
        "derived_series", "id study_id series_instance_uid kind model_digest inputs_digest made",
        [(1, 1, "1.2.3", "enhanced_mr", "w", "old", MOMENT), (2, 1, "1.2.4", "enhanced_mr", "w", "new", MOMENT)],
    ),
    (
        "deliveries", "id derived_series_id destination sop_class_uid sop_instance_uid path state attempts error",
        [
            (1, 1, "pacs", "", "1.2.3.1", "", "QUEUED", 0, ""), (2, 1, "share", "", "1.2.3.1", "", "SENT", 1, ""),
            (3, 2, "pacs", "", "1.2.4.1", "", "QUEUED", 0, ""),
        ],
    ),
)  # fmt: skip
