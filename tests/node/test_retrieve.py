"""Retrieving at its door: the simulator's archive as a real peer, with the ways in which C-MOVE is known to lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.association import Peer
from node.associations import Associations
from node.database import writing
from node.deliver import peer_of
from node.engine import WorkStarter
from node.query import MoveScu, QueryScu
from node.receive import Receiver
from node.retrieve import CANCELLED, DONE, FAILED, QUEUED, Retriever, request, seconds_until_open
from node.settings import DimseSource, Settings, load_settings
from node.source import Part, RetrieveError
from node.tables import Instance, Pull, Series
from simulator.archive import server
from simulator.archive.faults import Faults
from simulator.archive.send import Peer as KnownPeer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker, free_port
from tests.mr_slices import STUDY, mr_slice

pytestmark = pytest.mark.usefixtures("receiver")

SLICES = [mr_slice(series, number) for series in ("T1", "FLAIR") for number in (1, 2, 3, 4)]


@pytest.fixture(params=["c-move", "c-get"])
def settings(request: pytest.FixtureRequest, make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(source__retrieve=f'"{request.param}"'))


@pytest.fixture
def retriever(settings: Settings, engine: Engine, receiver: Receiver) -> Retriever:
    return Retriever(settings, engine, receiver.store, Associations())


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Iterator[Archive]:
    """A PACS that holds one study of two series, one of them twice as long with images that are not MR."""
    node = KnownPeer(settings.node.ae_title, "127.0.0.1", settings.receiver.port)
    with Archive("PACS", settings.source[0].port, tmp_path / "archive", peers=[node]) as archive:
        for dataset in SLICES:
            archive.index.add(_bytes(dataset))
        archive.index.add(_bytes(mr_slice("SR", 1, Modality="SR")))
        yield archive


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def pull(engine: Engine, settings: Settings) -> int:
    with writing(engine) as session:
        return request(session, WorkStarter(engine), STUDY, "pacs", "person tester", "asked for").id


def row(engine: Engine) -> Pull:
    with Session(engine) as session:
        return session.scalars(select(Pull)).one()


def held(engine: Engine) -> list[tuple[str, str]]:
    with Session(engine) as session:
        return [
            (series, instance)
            for series, instance in session.execute(
                select(Series.description, Instance.sop_instance_uid).join(Instance.series).order_by(Instance.id)
            )
        ]


def test_a_study_is_fetched_whole_and_nothing_but_what_this_node_takes(settings, engine, retriever, archive, pull):
    outcome = retriever.attempt(pull, 1)
    assert outcome.next_number == 0, outcome.said
    assert (row(engine).state, row(engine).arrived, row(engine).expected) == (DONE, 8, 8)
    assert {instance for series, instance in held(engine) if series != "SR"} == {
        dataset.SOPInstanceUID for dataset in SLICES
    }


@pytest.mark.parametrize("settings", ["c-move"], indirect=True)  # what C-GET sends, it sends to us
def test_success_that_is_none_is_not_believed(settings, engine, retriever, archive, pull):
    archive.order(Faults(feign_moves=3))
    outcome = retriever.attempt(pull, 1)
    assert "3 of 8 instances have not arrived" in outcome.said
    assert (outcome.next_number, row(engine).state, row(engine).arrived) == (2, QUEUED, 5)
    assert outcome.again_in == pytest.approx(settings.retrieval.first_retry_seconds, rel=0.2), "with jitter"
    assert retriever.attempt(pull, 2).next_number == 0
    assert row(engine).state == DONE
    assert len(held(engine)) == len(set(held(engine))), "only what was lacking came again"


def test_later_attempts_ask_for_instances_and_patience_ends_with_the_count(settings, engine, retriever, archive, pull):
    archive.order(Faults(lose=1000))  # it never sends a thing
    number, said = 1, ""
    while number:
        outcome = retriever.attempt(pull, number)
        number, said = outcome.next_number, outcome.said
    assert row(engine).attempts == settings.retrieval.attempts
    assert row(engine).state == FAILED
    assert "8 of 8 instances have not arrived" in said


def _answering(change: Callable[[Dataset], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the PACS answer C-FIND with the records that ``change`` leaves, as it leaves them."""
    really = server.find
    monkeypatch.setattr(server, "find", lambda *asked: (one for one in really(*asked) if change(one)))


def test_what_the_source_counts_and_does_not_list_is_asked_for_with_its_series(
    engine, retriever, archive, pull, monkeypatch
):
    hidden = {SLICES[0].SOPInstanceUID, SLICES[5].SOPInstanceUID}
    _answering(lambda record: record.get("SOPInstanceUID") not in hidden, monkeypatch)
    archive.order(Faults(lose=8))
    assert retriever.attempt(pull, 1).next_number == 2
    assert retriever.attempt(pull, 3).next_number == 0
    assert (row(engine).state, row(engine).reason) == (DONE, "8 instances are here")
    assert {instance for series, instance in held(engine) if series != "SR"} == {one.SOPInstanceUID for one in SLICES}


def test_a_source_that_lists_less_than_it_counts_has_not_sent_all(engine, retriever, archive, pull, monkeypatch):
    t1 = SLICES[0].SeriesInstanceUID

    def boast(record: Dataset) -> bool:
        if record.get("SeriesInstanceUID") == t1 and "NumberOfSeriesRelatedInstances" in record:
            record.NumberOfSeriesRelatedInstances += 2
        return True

    _answering(boast, monkeypatch)
    number = 1
    while number:
        number = retriever.attempt(pull, number).next_number
    assert row(engine).state == FAILED
    assert f"pacs counts 2 instances more than it lists, in series {t1}" in row(engine).reason
    assert {one.SOPInstanceUID for one in SLICES} <= {instance for _, instance in held(engine)}, "what there is is here"


def test_a_peer_that_is_down_and_one_that_holds_nothing(settings, engine, retriever, pull, tmp_path):
    outcome = retriever.attempt(pull, 1)
    assert "cannot be reached" in outcome.said
    assert outcome.next_number == 2
    with Archive("PACS", settings.source[0].port, tmp_path / "empty"):
        assert retriever.attempt(pull, 2).next_number == 0
    assert "holds nothing of this study" in row(engine).reason


@pytest.mark.parametrize("settings", ["c-move"], indirect=True)  # for C-GET it need not
def test_a_destination_the_pacs_does_not_know_is_said_in_its_words(settings, engine, retriever, tmp_path, pull):
    with Archive("PACS", settings.source[0].port, tmp_path / "archive") as archive:
        archive.index.add(_bytes(SLICES[0]))
        assert "enter this node there" in retriever.attempt(pull, 1).said


def test_what_was_cancelled_is_left_alone(settings, engine, retriever, archive, pull):
    with writing(engine) as session:
        session.get_one(Pull, pull).state = CANCELLED
    assert retriever.attempt(pull, 1).next_number == 0
    assert held(engine) == []


def test_what_nobody_foresaw_is_tried_again_and_ends(settings, engine, retriever, pull, monkeypatch, caplog):
    def raises(*_: object) -> None:
        raise KeyError("what a library raises")

    monkeypatch.setattr("node.retrieve.way_to_retrieve", raises)
    outcome = retriever.attempt(pull, 1)
    assert (row(engine).state, outcome.next_number) == (QUEUED, 2)
    assert "KeyError" in row(engine).reason
    assert "what a library raises" in caplog.text
    assert retriever.attempt(pull, settings.retrieval.attempts).next_number == 0
    assert row(engine).state == FAILED


def test_asking_twice_is_one_pull(settings, engine, pull):
    with writing(engine) as session:
        assert request(session, WorkStarter(engine), STUDY, "pacs", "node", "again").id == pull


@pytest.mark.parametrize("settings", ["c-move"], indirect=True)
def test_a_move_that_never_ends_is_ended(settings):
    """Pending answers keep the DIMSE timeout from ever striking: the whole C-MOVE has a limit of its own."""
    sink = AE("SINK")
    sink.add_supported_context(MRImageStorage)
    taker = sink.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0x0000)])

    def never(event: evt.Event) -> Iterator[object]:
        yield (*taker.socket.getsockname(), {"contexts": [build_context(MRImageStorage)]})
        yield 1000
        for number in range(1000):
            time.sleep(0.1)
            yield 0xFF00, mr_slice("slow", number)

    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_MOVE, never)])
    source = DimseSource(retrieve="c-move", name="pacs", ae_title="PACS", host="127.0.0.1", port=port, hours=())
    try:
        with (
            MoveScu(peer_of(source, "NODE", 5.0), 0.5, "NODE") as scu,
            pytest.raises(RetrieveError, match="did not finish the C-MOVE within"),
        ):
            scu.retrieve(Part(STUDY))
    finally:
        server.shutdown()
        taker.shutdown()


@pytest.mark.parametrize("settings", ["c-move"], indirect=True)
def test_a_search_that_never_ends_is_ended(settings):
    def never(event: evt.Event) -> Iterator[object]:
        for number in range(1000):
            time.sleep(0.05)
            found = Dataset()
            found.QueryRetrieveLevel, found.SeriesInstanceUID = "SERIES", f"1.2.{number}"
            yield 0xFF00, found

    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, never)])
    try:
        with (
            QueryScu(Peer("PACS", "127.0.0.1", port, "NODE", 5.0), 0.5) as scu,
            pytest.raises(RetrieveError, match=r"did not finish the C-FIND within 0\.5 s"),
        ):
            scu.series(STUDY)
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("hours", "at", "hours_to_wait"),
    [((), "12:00", 0), ((19, 6), "20:00", 0), ((19, 6), "05:59", 0), ((19, 6), "06:00", 13), ((19, 6), "18:30", 0.5),
     ((8, 17), "12:00", 0), ((8, 17), "17:00", 15), ((8, 17), "07:00", 1), ((0, 24), "23:59", 0)],
)  # fmt: skip
def test_the_hours_of_a_source(hours, at, hours_to_wait):
    moment = datetime.fromisoformat(f"2026-01-05T{at}")
    assert seconds_until_open(hours, moment) == pytest.approx(hours_to_wait * 3600)


@given(st.integers(0, 23), st.integers(0, 24), st.integers(0, 24 * 60 - 1))
def test_after_the_wait_the_source_is_open(begin, end, minute):
    if begin == end:
        return
    moment = datetime(2026, 1, 5) + timedelta(minutes=minute)
    wait = seconds_until_open((begin, end), moment)
    assert 0 <= wait < 24 * 3600
    assert seconds_until_open((begin, end), moment + timedelta(seconds=wait + 0.001)) == 0
