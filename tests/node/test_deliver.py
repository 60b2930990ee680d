"""Delivery at its door: the ledger in the tables, and the simulator's archive as a real peer on loopback."""

from __future__ import annotations

import threading

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.deliver import GIVEN_UP
from node.ledger import CONFIRMED, QUEUED, SENDING, SENT
from node.settings import Settings
from node.states import State
from node.tables import Delivery, Event, Study
from simulator.archive.faults import Faults
from tests.node.delivering import NO_UID, finding, ledger, state, storing, to_deliver


@pytest.fixture
def study(settings: Settings, engine: Engine) -> int:
    return to_deliver(settings, engine)


def test_everything_arrives_once_and_the_study_is_delivered(deliverer, settings, engine, study, archive):
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert ledger(engine) == [(CONFIRMED, 1)] * 3, "found by C-FIND: this archive commits to nobody it does not know"
    assert state(engine) == State.DELIVERED
    assert list(archive.received().values()) == [1, 1, 1]
    assert {held.transfer_syntax_uid for held in archive.index.all()} == {ExplicitVRLittleEndian}
    assert deliverer.attempt(study, "pacs", 2) == "", "a replayed step"
    assert list(archive.received().values()) == [1, 1, 1]


def test_a_pacs_that_is_down_is_waited_for(deliverer, settings, engine, study):
    problem = deliverer.attempt(study, "pacs", 1)
    assert "cannot be reached" in problem
    assert state(engine) == State.DELIVERING
    assert ledger(engine) == [(QUEUED, 0)] * 3
    with Session(engine) as session:
        event = session.scalars(select(Event)).one()
    assert "next in 5 s" in event.why


def test_patience_ends_in_failed_with_the_reason(deliverer, settings, engine, study):
    patience = settings.delivery
    number = 1
    while sum(patience.backoff(n) for n in range(1, number)) <= patience.give_up_hours * 3600:
        number += 1
    assert deliverer.attempt(study, "pacs", number) == GIVEN_UP
    assert state(engine) == State.FAILED


def test_a_refused_instance_is_not_in_doubt_and_is_sent_later(deliverer, settings, engine, study, archive):
    archive.order(Faults(out_of_resources=1))
    assert "0xA700" in deliverer.attempt(study, "pacs", 1)
    assert ledger(engine)[0] == (QUEUED, 1)
    assert deliverer.attempt(study, "pacs", 2) == ""
    assert list(archive.received().values()) == [1, 1, 1]


def test_an_abort_in_the_middle_is_taken_up_where_it_was(deliverer, settings, engine, study, archive):
    archive.order(Faults(abort_after=2))
    assert deliverer.attempt(study, "pacs", 1) != ""
    assert [row[0] for row in ledger(engine)] == [SENT, SENT, SENDING]
    archive.order(Faults())
    assert deliverer.attempt(study, "pacs", 2) == ""
    assert list(archive.received().values()) == [1, 1, 1]


def test_what_was_made_of_older_inputs_is_not_sent(deliverer, settings, engine, study, archive):
    with Session(engine) as session, session.begin():
        session.get_one(Study, study).inputs_digest = "of run 2"
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert archive.received() == {}


def test_two_attempts_at_once_send_once(deliverer, settings, engine, study, archive):
    archive.order(Faults(hang_seconds=0.2))
    threads = [threading.Thread(target=deliverer.attempt, args=(study, "pacs", 1)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(archive.received().values()) == [1, 1, 1]


def test_a_destination_that_was_removed_does_not_hold_up_the_study(deliverer, settings, engine, study, archive):
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Delivery)).all()[:2]:
            row.destination = "old-pacs"
    assert deliverer.attempt(study, "old-pacs", 1) == ""
    assert state(engine) == State.DELIVERING
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert state(engine) == State.DELIVERED
    assert sum(archive.received().values()) == 1


@pytest.mark.parametrize("status", [0x0110, 0x0122, 0x0124, 0x0106, 0xA700, 0xA900, 0xC000])
def test_no_failure_of_the_peer_counts_as_sent(deliverer, settings, engine, study, status):
    with storing(settings.destination[0].port, status):
        assert f"0x{status:04X}" in deliverer.attempt(study, "pacs", 1)
    assert ledger(engine)[0] == (QUEUED, 1)
    assert state(engine) == State.DELIVERING


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB006, 0xB007])
def test_success_a_warning_and_a_duplicate_count_as_sent(deliverer, settings, engine, study, status):
    with storing(settings.destination[0].port, status):
        assert deliverer.attempt(study, "pacs", 1) == ""
    assert ledger(engine) == [(SENT, 1)] * 3


def test_a_peer_that_cannot_be_asked_gets_a_doubtful_instance_again(deliverer, settings, engine, study):
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Delivery)):
            row.state = SENDING
    with storing(settings.destination[0].port, 0x0000):
        assert deliverer.attempt(study, "pacs", 1) == ""
    assert [row[0] for row in ledger(engine)] == [SENT] * 3


def test_an_answer_that_nobody_foresaw_is_told_and_tried_again_until_patience_ends(
    deliverer, settings, engine, study, caplog, monkeypatch
):
    def unforeseen(*_: object) -> None:
        raise ZeroDivisionError("division of nothing")

    monkeypatch.setattr("node.scu.StorageScu.store", unforeseen)
    with storing(settings.destination[0].port, 0x0000):
        assert "ZeroDivisionError" in deliverer.attempt(study, "pacs", 1)
        assert state(engine) == State.DELIVERING
        with Session(engine) as session:
            told = session.scalars(select(Event.why)).all()[-1]
        assert "attempt 1: ZeroDivisionError" in told
        assert "next in 5 s" in told
        assert "division of nothing" in caplog.text, "the whole of it is in the log"
        assert deliverer.attempt(study, "pacs", 10_000) == GIVEN_UP
    assert state(engine) == State.FAILED


def test_once_it_answers_in_order_all_is_delivered(deliverer, settings, engine, study):
    with finding(settings.destination[0].port, NO_UID):
        deliverer.attempt(study, "pacs", 1)
    with storing(settings.destination[0].port, 0x0000):
        assert deliverer.attempt(study, "pacs", 2) == ""
    assert state(engine) == State.DELIVERED


def test_nothing_is_sent_of_a_study_that_was_cancelled(deliverer, settings, engine, study, archive):
    with Session(engine) as session, session.begin():
        session.get_one(Study, study).state = State.CANCELLED
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert archive.received() == {}


@pytest.mark.parametrize("it_arrived", [True, False])
def test_what_a_crash_left_in_doubt_is_asked_for_before_it_is_sent_again(
    deliverer, engine, study, archive, it_arrived
):
    if it_arrived:
        assert deliverer.attempt(study, "pacs", 1) == ""
    with Session(engine) as session, session.begin():
        session.scalars(select(Study)).one().state = State.DELIVERING
        for row in session.scalars(select(Delivery)):
            row.state, row.settled = SENDING, None
    assert deliverer.attempt(study, "pacs", 1) == ""
    assert list(archive.received().values()) == [1, 1, 1]
    assert [row[0] for row in ledger(engine)] == [CONFIRMED] * 3
