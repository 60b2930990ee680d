"""What the sources hold decides, too: a real archive is asked, waited for and fetched from; down, it stops nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.collect import Collector
from node.database import writing
from node.retrieve import CANCELLED, DONE, FAILED, QUEUED, Retriever
from node.settings import Settings, load_settings
from node.states import State
from node.tables import DerivedSeriesRow, Instance, Pull, Study
from simulator.archive.faults import Faults
from simulator.archive.query import find
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.node.collecting import finish, low_dose, quiet_for, receive, study_of, t1
from tests.waiting import eventually

SERIES = [*t1(), *low_dose()]
LACKING_11 = [*SERIES[:10], *SERIES[11:]]
BEYOND = mr_slice("t1", 25, SeriesNumber=1)  # of which nothing but the source can tell


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(
        make_config(
            required='["t1", "low_dose"]', complete_studies="true", retrieval__timeout_seconds=3.0, attempts=1,
        )
    )  # fmt: skip


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Iterator[Archive]:
    """A PACS that holds both series whole, one with a slice beyond those that it declares."""
    node = Peer(settings.node.ae_title, "127.0.0.1", settings.receiver.port)
    with Archive("PACS", settings.source[0].port, tmp_path / "archive", peers=[node]) as archive:
        for dataset in (*SERIES, BEYOND):
            put(archive, dataset)
        yield archive


def put(archive: Archive, dataset: Dataset) -> None:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    archive.index.add(buffer.getvalue())


def pulls(engine: Engine) -> list[Pull]:
    with Session(engine) as session:
        return list(session.scalars(select(Pull)))


def look_until(collector: Collector, engine: Engine, state: State, seconds: float = 10) -> Study:
    def arrived() -> bool:
        collector.look()
        return study_of(engine).state == state

    eventually(arrived, seconds, every=0.05)
    return study_of(engine)


def pulled(collector: Collector, engine: Engine) -> Pull:
    """The pull that the collector's looks lead to."""

    def there() -> bool:
        collector.look()
        return bool(pulls(engine))

    eventually(there, 10, every=0.05)
    return pulls(engine)[-1]


@pytest.mark.parametrize("arrived", [LACKING_11, SERIES], ids=["incomplete", "complete by its own account"])
def test_what_the_source_holds_beyond_what_arrived_is_waited_for_and_fetched(
    collector, associations, engine, starter, settings, archive, receiver, tmp_path, arrived
):
    lacking = len(SERIES) + 1 - len(arrived)
    with Archive("PACS", 0, tmp_path / "sent") as sender:
        for dataset in arrived:
            put(sender, dataset)
        sender.route(STUDY, Peer(settings.node.ae_title, "127.0.0.1", settings.receiver.port))
    pull = pulled(collector, engine)
    study = study_of(engine)
    assert (study.state, study.doing) == (State.RECEIVING, f"pacs holds {lacking} instances more than have arrived")
    assert (pull.asked_by, pull.source, pull.state) == ("node", "pacs", QUEUED)
    assert starter.status(f"pull-{pull.id}-1") == "ENQUEUED"
    assert study.events[-1].what == "the rest is fetched"
    Retriever(settings, engine, receiver.store, associations).attempt(pull.id, 1)
    study = look_until(collector, engine, State.QUEUED)
    with Session(engine) as session:
        assert len(session.scalars(select(Instance)).all()) == len(SERIES) + 1, "none twice"
    assert [one.state for one in pulls(engine)] == [DONE]


def test_what_the_source_holds_but_this_node_does_not_take_is_not_waited_for(
    collector, associations, engine, archive, tmp_path
):
    for number in range(3):
        put(archive, mr_slice("report", number, Modality="SR"))
        put(archive, mr_slice("raw", number, SOPClassUID="1.2.840.10008.5.1.4.1.1.66"))
        put(archive, mr_slice("virtual", number))
    receive(engine, tmp_path, *SERIES, BEYOND)
    with writing(engine) as session:
        ours = mr_slice("virtual", 1).SeriesInstanceUID
        session.add(DerivedSeriesRow(study_id=1, series_instance_uid=ours, kind="", model_digest="", inputs_digest=""))
    finish(associations, engine)
    look_until(collector, engine, State.QUEUED)
    assert pulls(engine) == []


@pytest.mark.parametrize("count", [None, 0])
def test_a_source_that_does_not_count_is_asked_for_each_instance(
    collector, associations, engine, settings, tmp_path, count
):
    """Number of Series Related Instances is an optional key (PS3.4 table C.6-3)."""
    ae = AE("PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    with Archive("HIDDEN", 0, tmp_path / "archive") as archive:
        for dataset in (*SERIES, BEYOND):
            put(archive, dataset)

        def answer(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
            for found in find(event.identifier, archive.index.all()):
                if "NumberOfSeriesRelatedInstances" in found:
                    found.NumberOfSeriesRelatedInstances = count
                yield 0xFF00, found

        address = ("127.0.0.1", settings.source[0].port)
        server = ae.start_server(address, block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
        receive(engine, tmp_path, *SERIES)
        finish(associations, engine)
        assert "1 instances more" in pulled(collector, engine).reason
        server.shutdown()


def test_a_source_that_is_down_holds_up_nothing_that_is_complete(collector, associations, engine, settings, tmp_path):
    receive(engine, tmp_path, *SERIES)
    finish(associations, engine)
    look_until(collector, engine, State.QUEUED, 2)
    assert pulls(engine) == []


def test_a_source_that_is_silent_stops_no_look_at_other_studies(collector, associations, engine, settings, tmp_path):
    """It takes the connection, and never says a word."""
    with socket.create_server(("127.0.0.1", settings.source[0].port)):
        receive(engine, tmp_path, *SERIES)
        finish(associations, engine)
        receive(engine, tmp_path, *(mr_slice("t1", n, study="2.25.7", SeriesNumber=1) for n in range(1, 25)))
        begin = time.monotonic()
        collector.look()
        assert time.monotonic() - begin < 1.5, "nobody waits for the source"
        with Session(engine) as session:
            asked, other = session.scalars(select(Study).order_by(Study.id))
            assert asked.state == State.RECEIVING
            assert other.missing == ["low_dose: no T1-weighted series after the low dose"]

        def gone() -> bool:
            collector.look()
            with Session(engine) as session:
                return session.get_one(Study, asked.id).state == State.QUEUED

        eventually(gone, settings.retrieval.timeout_seconds + 3, every=0.1)


@pytest.mark.parametrize("arrived", [LACKING_11, SERIES], ids=["incomplete", "complete by its own account"])
def test_what_cannot_be_fetched_is_waited_for_until_patience_ends(
    collector, associations, engine, settings, archive, receiver, tmp_path, arrived
):
    archive.order(Faults(lose=1000))
    receive(engine, tmp_path, *arrived)
    finish(associations, engine)
    Retriever(settings, engine, receiver.store, associations).attempt(pulled(collector, engine).id, 1)
    collector.look()
    assert [pull.state for pull in pulls(engine)] == [FAILED]
    collector._inquirer._questions.clear()  # a minute later
    for _ in range(20):
        collector.look()
        time.sleep(0.05)
    assert study_of(engine).state == State.RECEIVING
    assert len(pulls(engine)) == 1, "nothing has arrived since it was tried"
    quiet_for(engine, settings.completeness.give_up_seconds)
    collector.look()
    assert study_of(engine).state == (State.INCOMPLETE if arrived is LACKING_11 else State.QUEUED)


def test_a_pull_that_a_person_called_off_is_not_begun_again(collector, associations, engine, archive, tmp_path):
    receive(engine, tmp_path, *LACKING_11)
    finish(associations, engine)
    pull = pulled(collector, engine)
    with writing(engine) as session:
        session.get_one(Pull, pull.id).state = CANCELLED
    collector._inquirer._questions.clear()  # a minute later
    for _ in range(20):
        collector.look()
        time.sleep(0.05)
    assert [one.state for one in pulls(engine)] == [CANCELLED]


def test_nobody_is_asked_unless_it_is_configured(make_config, engine, starter, archive, tmp_path):
    settings = load_settings(make_config(required='["t1", "low_dose"]'))
    assert not settings.retrieval.complete_studies
    associations = Associations()
    receive(engine, tmp_path, *SERIES)
    finish(associations, engine)
    Collector(settings, engine, starter, associations).look()
    assert study_of(engine).state == State.QUEUED
