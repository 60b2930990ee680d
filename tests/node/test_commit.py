"""Confirmed delivery at its door: real peers on loopback that commit, refuse, keep silent, or lose what they took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.commit import Reports, find_there
from node.commitment_results import CommitmentResults
from node.commitment_services import CommitmentRequest
from node.deliver import Deliverer
from node.ledger import COMMITTED, CONFIRMED, QUEUED, SENT, mark, remember_request
from node.receive import Receiver
from node.sender import NotOfferedError, Sender, Whereabouts
from node.settings import Settings
from node.states import State
from node.tables import Delivery, Event, Instance, Study, now
from simulator.archive.faults import Faults
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import free_port
from tests.mr_slices import mr_slice
from tests.node.delivering import to_deliver
from tests.node.modality import Modality
from tests.node.telling import telling
from tests.waiting import eventually


@pytest.fixture
def study(settings: Settings, engine: Engine) -> int:
    """A study in DELIVERING with one derived series of two instances for the place called pacs."""
    return to_deliver(settings, engine, count=2)


@pytest.fixture
def reports(settings: Settings, engine: Engine) -> Iterator[Reports]:
    """What hears the answers, with the node's receiver listening for them."""
    reports = Reports(settings, engine)
    receiver = Receiver(
        settings, engine, Associations(), on_closed=lambda: None, reports=reports, tell=telling(settings, engine)
    )
    receiver.start()
    yield reports
    receiver.stop()


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Iterator[Archive]:
    """A PACS that knows the node, and so reports its commitments to it over associations of its own."""
    node = Peer(settings.node.ae_title, "127.0.0.1", settings.receiver.port)
    with Archive("PACS", settings.destination[0].port, tmp_path / "archive", peers=[node]) as archive:
        yield archive


def rows(engine: Engine) -> list[Delivery]:
    with Session(engine) as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def state(engine: Engine) -> str:
    with Session(engine) as session:
        return session.scalars(select(Study.state)).one()


def test_the_answer_on_a_new_association_commits_and_finishes_the_study(settings, engine, study, reports, archive):
    Deliverer(settings, engine, reports).attempt(study, "pacs", 1)
    eventually(lambda: state(engine) == State.DELIVERED, 10)
    assert [row.state for row in rows(engine)] == [COMMITTED] * 2
    assert all(row.settled for row in rows(engine))
    with Session(engine) as session:
        assert "pacs (committed)" in session.scalars(select(Study.reason)).one()


def test_what_is_not_committed_is_sent_again(settings, engine, study, reports, archive):
    archive.order(Faults(fail_commitments=1))
    deliverer = Deliverer(settings, engine, reports)
    assert "did not commit" in deliverer.attempt(study, "pacs", 1)
    assert state(engine) == State.DELIVERING
    assert deliverer.attempt(study, "pacs", 2) == ""
    assert [row.state for row in rows(engine)] == [COMMITTED] * 2
    assert sorted(archive.received().values()) == [1, 2], "the failed one again, the other once"
    with Session(engine) as session:
        assert "failure reason 0x0110" in session.scalars(
            select(Event.why).where(Event.what == "commitment failed")
        ).one()


def test_silence_is_waited_for_and_then_a_query_decides(settings, engine, study, reports, archive):
    archive.order(Faults(withhold_commitments=5))
    deliverer = Deliverer(settings, engine, reports)
    assert "waiting for the storage commitment of pacs" in deliverer.attempt(study, "pacs", 1)
    assert "waiting for the storage commitment of pacs" in deliverer.attempt(study, "pacs", 2)
    assert [row.state for row in rows(engine)] == [SENT] * 2
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Delivery)):
            row.asked = now() - timedelta(seconds=settings.delivery.commitment_timeout_seconds + 1)
    assert deliverer.attempt(study, "pacs", 3) == ""
    assert [row.state for row in rows(engine)] == [CONFIRMED] * 2
    assert state(engine) == State.DELIVERED
    assert list(archive.received().values()) == [1, 1]


def test_an_answer_after_a_restart_is_understood(settings, engine, study, archive):
    """The Transaction UID is in the database: who asked and who hears the answer need not be the same process."""
    archive.order(Faults(withhold_commitments=1))
    asked = Reports(settings, engine)
    assert "waiting" in Deliverer(settings, engine, asked).attempt(study, "pacs", 1)
    answer = Dataset()
    answer.TransactionUID = rows(engine)[0].transaction_uid
    answer.ReferencedSOPSequence = []
    for row in rows(engine):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row.sop_class_uid, row.sop_instance_uid
        answer.ReferencedSOPSequence.append(item)
    assert Reports(settings, engine).take(answer)
    assert state(engine) == State.DELIVERED
    answer.TransactionUID = "1.2.3"
    assert not Reports(settings, engine).take(answer), "nobody asked for that"


def report_on(asked: list[Delivery], failed: Sequence[int] = ()) -> Dataset:
    """The Event Information of an answer to storage commitment: these failed, the others are committed."""
    report = Dataset()
    report.TransactionUID = asked[0].transaction_uid
    report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
    for number, row in enumerate(asked):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row.sop_class_uid, row.sop_instance_uid
        if number in failed:
            item.FailureReason = 0x0110
        (report.FailedSOPSequence if number in failed else report.ReferencedSOPSequence).append(item)
    return report


def ask_long_ago(engine: Engine) -> list[Delivery]:
    """Everything was sent, and asked for, days ago."""
    mark(engine, rows(engine), SENT)
    remember_request(engine, rows(engine), "1.2.3.4")
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Delivery)):
            row.sent = row.asked = now() - timedelta(days=2)
    return rows(engine)


@pytest.mark.parametrize("bad", ["no reason", "no UID"])
def test_one_malformed_item_does_not_cost_the_report(settings, engine, study, bad):
    report = report_on(ask_long_ago(engine), failed=[1])
    if bad == "no reason":
        report.FailedSOPSequence[0].FailureReason = None
    else:
        del report.FailedSOPSequence[0].ReferencedSOPInstanceUID
    assert Reports(settings, engine).take(report)
    assert [row.state for row in rows(engine)] == [COMMITTED, QUEUED if bad == "no reason" else SENT]
    assert "it does not say why" in rows(engine)[1].error or bad == "no UID"


def test_a_failure_told_after_a_query_found_it_is_not_kept_quiet(settings, engine, study):
    asked = ask_long_ago(engine)
    mark(engine, asked, CONFIRMED, settled=True)
    assert Reports(settings, engine).take(report_on(asked, failed=[0, 1]))
    assert [row.state for row in rows(engine)] == [CONFIRMED] * 2
    assert all("did not commit to it" in row.error and "settled as CONFIRMED" in row.error for row in rows(engine))
    with Session(engine) as session:
        assert len(session.scalars(select(Event).where(Event.what == "commitment failed")).all()) == 2


class ReportsMeanwhile:
    """A destination whose report comes while its query is answered."""

    def __init__(self, reports: Reports, report: Dataset, there: bool | None) -> None:
        self._reports, self._report, self._there = reports, report, there

    def has(self, instance: Whereabouts) -> bool:
        self._reports.take(self._report)
        if self._there is None:
            raise NotOfferedError("no C-FIND")
        return self._there


@pytest.mark.parametrize(
    ("failed", "there", "state_then"),
    [((0, 1), True, QUEUED), ((0, 1), None, QUEUED), ((), False, COMMITTED), ((), None, COMMITTED)],
)
def test_a_report_that_comes_during_the_query_holds(settings, engine, study, failed, there, state_then):
    asked = ask_long_ago(engine)
    sender = ReportsMeanwhile(Reports(settings, engine), report_on(asked, failed), there)
    find_there(engine, cast(Sender, sender), asked, lambda row: Whereabouts("1.2", "1.2", row.sop_instance_uid))
    assert [row.state for row in rows(engine)] == [state_then] * 2
    assert all((row.settled is not None) == (state_then == COMMITTED) for row in rows(engine))


def test_what_was_lost_after_success_is_sent_again(settings, engine, study, tmp_path):
    with Archive("PACS", settings.destination[0].port, tmp_path / "first") as first:
        Deliverer(settings, engine, Reports(settings, engine)).attempt(study, "pacs", 1)
        assert sum(first.received().values()) == 2
    with Session(engine) as session, session.begin():
        session.get_one(Study, study).state = State.DELIVERING
        for row in session.scalars(select(Delivery)):
            row.state, row.settled, row.sent = SENT, None, now() - timedelta(minutes=5)
    with Archive("PACS", settings.destination[0].port, tmp_path / "second") as second:
        deliverer = Deliverer(settings, engine, Reports(settings, engine))
        assert "does not find" in deliverer.attempt(study, "pacs", 1)
        assert rows(engine)[0].state == QUEUED
        while deliverer.attempt(study, "pacs", 2):
            pass
        assert sum(second.received().values()) == 2
    assert state(engine) == State.DELIVERED


@pytest.fixture
def modality(settings: Settings, engine: Engine) -> Iterator[Modality]:
    """SIMULATOR, which [[peer]] knows: it sends, asks for storage commitment, and listens for the answer."""
    port = free_port()
    known = settings.peer[0].model_copy(update={"port": port})
    settings = settings.model_copy(update={"peer": (known,)})
    receiver = Receiver(
        settings, engine, Associations(), on_closed=lambda: None, reports=Reports(settings, engine),
        tell=telling(settings, engine),
    )  # fmt: skip
    receiver.start()
    modality = Modality(settings.node.ae_title, settings.receiver.port)
    modality.listen(port)
    yield modality
    modality.server.shutdown()
    receiver.stop()


def count(engine: Engine) -> int:
    with Session(engine) as session:
        return len(session.scalars(select(Instance)).all())


def test_the_node_answers_for_what_it_holds_and_only_for_that(modality, settings, engine):
    kept, lost = mr_slice("sent", 1), mr_slice("sent", 2)
    association = modality.call()
    assert [association.send_c_store(one).Status for one in (kept, lost)] == [0, 0]
    association.release()
    eventually(lambda: count(engine) == 2, 10)
    with Session(engine) as session:
        row = session.scalars(select(Instance).where(Instance.sop_instance_uid == lost.SOPInstanceUID)).one()
        (settings.node.data / row.path).unlink()
    assert modality.ask(
        (MRImageStorage, kept.SOPInstanceUID), (MRImageStorage, lost.SOPInstanceUID),
        (CTImageStorage, kept.SOPInstanceUID), (MRImageStorage, "1.2.3"),
    ) == 0x0000  # fmt: skip
    eventually(lambda: modality.heard, 10)
    (event_type, report), *_ = modality.heard
    assert (event_type, report.TransactionUID) == (2, "1.2.3.4.5")
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.FailedSOPSequence] == [
        (lost.SOPInstanceUID, 0x0112), (kept.SOPInstanceUID, 0x0119), ("1.2.3", 0x0112),
    ]  # fmt: skip


    [told] = eventually(lambda: events(engine, "storage commitment told"), 10)
    assert (told.who, told.why) == ("SIMULATOR", "transaction 1.2.3.4.5: 1 instances are kept here, 3 are not")


def events(engine: Engine, what: str) -> list[Event]:
    with Session(engine) as session:
        return list(session.scalars(select(Event).where(Event.what == what)))


def test_a_result_is_told_again_until_nobody_can_want_it_any_more(settings, engine):
    """Nobody listens at the peer's address."""
    results = CommitmentResults(settings, engine)
    request = CommitmentRequest("SIMULATOR", "1.2.3.4.5", [(MRImageStorage, "1.2.3")])
    first = results.attempt(request, 1)
    assert "cannot be reached: Connection refused" in first.said
    assert (first.next_number, first.again_in) == (2, settings.delivery.first_retry_seconds)
    patient = settings.delivery.model_copy(update={"give_up_hours": 0.001})
    last = CommitmentResults(settings.model_copy(update={"delivery": patient}), engine).attempt(request, 5)
    assert last.next_number == 0
    [event] = events(engine, "storage commitment not told")
    assert event.who == "SIMULATOR" and "Connection refused" in event.why and "has to ask again" in event.why


def test_a_peer_that_is_not_configured_any_more_is_told_nothing(settings, engine):
    request = CommitmentRequest("ORTHANC", "1.2.3.4.5", [(MRImageStorage, "1.2.3")])
    assert CommitmentResults(settings, engine).attempt(request, 1).next_number == 0
    assert "no [[peer]] says any more" in events(engine, "storage commitment not told")[0].why


def test_whoever_cannot_be_answered_is_told_so(modality):
    assert modality.ask((MRImageStorage, "1.2.3"), calling="ORTHANC") == 0x0124
    assert modality.ask() == 0x0120
    assert modality.ask((MRImageStorage, "1.2.3"), (MRImageStorage, "")) == 0x0120
