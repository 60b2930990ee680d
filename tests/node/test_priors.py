"""Earlier studies of the same patient: which are fetched, that they are kept and not processed, and delay nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import actions
from node.associations import Associations
from node.cli.retrieving import cancel
from node.collect import Collector
from node.database import writing
from node.engine import WorkStarter
from node.files import DataFolder, safe_name
from node.priors import Present, PriorSeeker, choose, seek
from node.receive import Receiver
from node.receive.store import Store
from node.retrieve import CANCELLED, DONE, FAILED, QUEUED, Outcome, Retriever, request
from node.settings import PriorSettings, Settings, load_settings
from node.source import StudyFound
from node.states import State
from node.tables import Pull, Run, Study, now
from node.taker import Taker
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.node.collecting import finish, low_dose, receive, t1
from tests.node.test_collect_sources import put
from tests.waiting import eventually

TODAY = Present("1.2.3", "P1", "HOSPITAL", date(2026, 1, 2))


def found(day: str, uid: str = "", description: str = "MR head", modalities: tuple[str, ...] = ("MR",),
          patient: str = "P1", issuer: str = "HOSPITAL") -> StudyFound:  # fmt: skip
    return StudyFound(uid or f"1.2.{day or 0}", "", day, description, modalities, patient, issuer)


NEWEST_2 = PriorSettings(newest=2, years=5)


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        ([], NEWEST_2, []),
        ([found("20250101"), found("20251231"), found("20240101")], NEWEST_2, ["20251231", "20250101"]),
        ([found("20250101"), found("20250101")], NEWEST_2, ["20250101"]),  # told twice
        ([found("20260102"), found("20260103"), found("20260101")], NEWEST_2, ["20260101"]),  # the same day is no prior
        ([found("20210102"), found("20201201")], NEWEST_2, ["20210102"]),
        ([found("20201201")], PriorSettings(newest=1, years=6), ["20201201"]),
        ([found("19000101")], PriorSettings(newest=1, years=150), ["19000101"]),
        ([found(""), found("2025"), found("unknown")], NEWEST_2, []),
        ([found("20250101", TODAY.study_instance_uid)], NEWEST_2, []),
        ([found("20250101", patient="P10"), found("20250102", patient="p1"), found("20250103", patient="")],
         NEWEST_2, []),
        ([found("20250101", patient="P1 ", issuer=" HOSPITAL")], NEWEST_2, ["20250101"]),  # padding
        ([found("20250101", issuer="ELSEWHERE"), found("20250102", issuer="")], NEWEST_2, ["20250102"]),
        ([found("20250103", modalities=("CT",)), found("20250102", modalities=("CT", "MR")), found("20250101")],
         PriorSettings(newest=1, years=5), ["20250102"]),
        ([found("20250103", description="MR knee"), found("20250102", description="IRM CEREBRALE"),
          found("20250101", description=""), found("20240101", description="Head^Routine")],
         PriorSettings(newest=3, years=5, study_description="head|cerebr"), ["20250102", "20240101"]),
    ],
)  # fmt: skip
def test_which_studies_are_priors(there, wanted, chosen):
    of_modality = choose(there, TODAY, wanted, lambda one: "MR" in one.modalities)
    assert [one.study_date for one in of_modality] == chosen


def test_a_study_without_an_issuer_takes_those_of_any():
    nobody = Present("1.2.3", "P1", "", date(2026, 1, 2))
    assert len(choose([found("20250101"), found("20250102", issuer="")], nobody, NEWEST_2, lambda _: True)) == 2


def test_no_more_studies_are_asked_for_their_modality_than_are_needed():
    asked: list[str] = []

    def is_of_modality(one: StudyFound) -> bool:
        asked.append(one.study_date)
        return True

    choose([found(f"2025010{day}") for day in range(1, 9)], TODAY, NEWEST_2, is_of_modality)
    assert asked == ["20250108", "20250107"]


EARLIER = {"1.2.30": "20250630", "1.2.31": "20240101"}
SERIES = [*t1(), *low_dose()]


def prior(study: str) -> list[Dataset]:
    """An earlier study that would be complete."""
    elements = {"study": study, "StudyDate": EARLIER[study]}
    return [*t1(**elements), *low_dose(**elements)]


@pytest.fixture
def way() -> str:
    return "c-get"


@pytest.fixture
def settings(way: str, make_config: ConfigMaker) -> Settings:
    priors = "priors = { newest = 2, years = 5 }"
    return load_settings(
        make_config(
            required='["t1", "low_dose"]', source__retrieve=f'"{way}"\n{priors}', attempts=2,
            retrieval__timeout_seconds=3.0,
        )
    )  # fmt: skip


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Iterator[Archive]:
    """A PACS with today's study, two earlier ones, and others that are not to be fetched."""
    node = Peer(settings.node.ae_title, "127.0.0.1", settings.receiver.port)
    with Archive("PACS", settings.source[0].port, tmp_path / "archive", peers=[node]) as archive:
        for study in EARLIER:
            for one in prior(study):
                put(archive, one)
        put(archive, mr_slice("ct", 1, study="1.2.32", StudyDate="20251230", Modality="CT"))
        put(archive, mr_slice("t1", 1, study="1.2.33", StudyDate="20251230", PatientID="P10"))
        put(archive, mr_slice("t1", 1, study="1.2.34", StudyDate="20260102"))
        put(archive, mr_slice("t1", 1, study="1.2.35", StudyDate="20010101"))
        yield archive


@pytest.fixture
def seeker(settings: Settings, engine: Engine, starter: WorkStarter, associations: Associations) -> PriorSeeker:
    return PriorSeeker(settings, engine, starter, associations)


def complete(collector: Collector, engine: Engine, associations: Associations, folder: Path) -> Study:
    receive(engine, folder, *SERIES)
    finish(associations, engine)
    collector.look()
    study = study_of(engine, STUDY)
    assert study.state == State.QUEUED
    return study


def study_of(engine: Engine, uid: str) -> Study:
    with Session(engine) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        _ = study.events
        return study


def pulls(engine: Engine) -> dict[str, Pull]:
    with Session(engine) as session:
        return {pull.study_instance_uid: pull for pull in session.scalars(select(Pull))}


def fetch(settings: Settings, engine: Engine, receiver: Receiver, associations: Associations) -> None:
    for pull in pulls(engine).values():
        Retriever(settings, engine, receiver.store, associations).attempt(pull.id, 1)


@pytest.mark.parametrize("way", ["c-move", "c-get"])
def test_two_earlier_studies_are_fetched_kept_and_not_processed(
    collector, engine, associations, starter, settings, seeker, archive, receiver, tmp_path
):
    study = complete(collector, engine, associations, tmp_path)
    assert starter.status(f"priors-{study.key}-pacs-1") == "ENQUEUED"
    assert seeker.attempt(study.id, "pacs", 1).next_number == 0
    asked = pulls(engine)
    assert set(asked) == set(EARLIER)
    assert {(pull.state, pull.prior_of) for pull in asked.values()} == {(QUEUED, study.key)}
    assert study_of(engine, STUDY).events[-1].what == "priors"
    assert "20250630 is fetched by pull 1; 20240101 is fetched by pull 2" in study_of(engine, STUDY).events[-1].why
    fetch(settings, engine, receiver, associations)
    assert {pull.state for pull in pulls(engine).values()} == {DONE}

    def rest() -> bool:
        collector.look()
        return all(study_of(engine, uid).state == State.PRIOR for uid in EARLIER)

    eventually(rest, 5)
    for uid in EARLIER:
        kept = study_of(engine, uid)
        assert f"fetched as a prior of study {study.key} (48 instances are here)" in kept.reason
        assert [event.what for event in kept.events if event.what.endswith("PRIOR")] == ["RECEIVING → PRIOR"]
        assert (kept.run, kept.missing) == (0, []), "it would be complete, and is not processed all the same"
    assert study_of(engine, STUDY).state == State.QUEUED
    with Session(engine) as session:
        assert [run.study_id for run in session.scalars(select(Run))] == [study.id]
    assert seeker.attempt(study.id, "pacs", 1).next_number == 0, "a replayed step"
    assert len(pulls(engine)) == 2
    assert "20250630 is here or was asked for already" in study_of(engine, STUDY).events[-1].why


def taken_as_prior(engine: Engine, settings: Settings, associations: Associations, *datasets: Dataset) -> None:
    """As a pull that has ended leaves it."""
    uid = str(datasets[0].StudyInstanceUID)
    with writing(engine) as session:
        request(session, WorkStarter(engine), uid, "pacs", "node", "a prior", prior_of="k")
    folder = settings.node.data
    folder.mkdir(parents=True, exist_ok=True)
    receive(engine, folder, *datasets)
    end_pull(engine, DONE)


def end_pull(engine: Engine, state: str, ago: timedelta = timedelta()) -> None:
    with writing(engine) as session:
        pull = session.scalars(select(Pull)).one()
        pull.state, pull.ended = state, now() - ago
        pull.asked = min(pull.asked, pull.ended)


def test_what_a_prior_waits_for_and_what_takes_it_out_of_its_rest(
    collector, engine, associations, starter, settings, tmp_path
):
    taken_as_prior(engine, settings, associations, *prior("1.2.30"))
    with writing(engine) as session:
        pull = session.scalars(select(Pull)).one()
        pull.state, pull.ended = QUEUED, None
    finish(associations, engine)
    collector.look()
    study = study_of(engine, "1.2.30")
    assert (study.state, study.doing) == (State.RECEIVING, "being fetched as a prior of study k")
    end_pull(engine, DONE)
    collector.look()
    assert study_of(engine, "1.2.30").state == State.PRIOR
    receive(engine, tmp_path, mr_slice("t1", 25, study="1.2.30"))
    collector.look()
    study = study_of(engine, "1.2.30")
    assert (study.state, study.events[-1].what) == (State.PRIOR, "late instances")
    assert "studies retry" in study.events[-1].why
    assert actions.retry(engine, "1.2.30", settings, starter) == "run 1"
    receive(engine, tmp_path, mr_slice("t1", 26, study="1.2.30"))
    collector.look()
    assert study_of(engine, "1.2.30").state == State.RECEIVING, "a person asked for it: it is like any other now"


@pytest.mark.parametrize(
    ("pull", "ago", "becomes"),
    [
        (DONE, timedelta(days=2), State.QUEUED), (FAILED, timedelta(days=2), State.QUEUED),
        (CANCELLED, timedelta(days=2), State.QUEUED),
        (FAILED, timedelta(seconds=30), State.PRIOR), (CANCELLED, timedelta(seconds=30), State.PRIOR),
    ],
)  # fmt: skip
def test_what_comes_long_after_a_priors_pull_was_sent_for_itself_and_what_a_c_move_brings_late_is_a_prior(
    collector, engine, associations, starter, settings, tmp_path, pull, ago, becomes
):
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "node", "a prior", prior_of="k")
    end_pull(engine, pull, ago)
    receive(engine, tmp_path, *prior("1.2.30"))
    finish(associations, engine)
    collector.look()
    assert study_of(engine, "1.2.30").state == becomes


def test_a_prior_that_failed_to_come_and_is_fetched_again_is_one(
    collector, engine, associations, starter, settings, tmp_path
):
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "node", "a prior", prior_of="k")
    end_pull(engine, FAILED, timedelta(days=2))
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "node", "a prior", prior_of="l")
    receive(engine, tmp_path, *prior("1.2.30"))
    finish(associations, engine)
    collector.look()
    assert study_of(engine, "1.2.30").doing == "being fetched as a prior of study l"


def test_a_pull_that_a_person_calls_off_ends_then(engine, starter, settings, make_config):
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "node", "a prior", prior_of="k")
    cancel(1, make_config())
    [pull] = pulls(engine).values()
    assert pull.state == CANCELLED
    assert now() - pull.ended < timedelta(minutes=1)


def test_a_prior_that_a_person_pulls_is_collected_for_itself(collector, engine, associations, starter, settings):
    taken_as_prior(engine, settings, associations, *prior("1.2.30"))
    collector.look()
    assert study_of(engine, "1.2.30").state == State.PRIOR
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "person tester", "asked for")
    study = study_of(engine, "1.2.30")
    assert study.state == State.RECEIVING
    assert (study.events[-1].who, study.events[-1].what) == ("person tester", "PRIOR → RECEIVING")
    finish(associations, engine)
    collector.look()
    assert study_of(engine, "1.2.30").state == State.QUEUED
    with Session(engine) as session:
        assert {pull.prior_of for pull in session.scalars(select(Pull))} == {"k", ""}


def test_a_pull_that_is_open_as_a_priors_becomes_the_persons(collector, engine, associations, starter, settings):
    with writing(engine) as session:
        request(session, starter, "1.2.30", "pacs", "node", "a prior", prior_of="k")
        request(session, starter, "1.2.30", "pacs", "person tester", "asked for")
    receive(engine, settings.node.data.parent, *prior("1.2.30"))
    finish(associations, engine)
    collector.look()
    assert study_of(engine, "1.2.30").state == State.QUEUED


def test_what_is_here_or_coming_or_called_off_is_not_fetched_as_a_prior(
    collector, engine, associations, settings, seeker, archive, tmp_path, starter
):
    study = complete(collector, engine, associations, tmp_path)
    receive(engine, tmp_path, *prior("1.2.30"))
    with writing(engine) as session:
        request(session, starter, "1.2.31", "pacs", "person tester", "").state = CANCELLED
    seeker.attempt(study.id, "pacs", 1)
    assert set(pulls(engine)) == {"1.2.31"}
    finish(associations, engine)
    collector.look()
    assert study_of(engine, "1.2.30").state == State.QUEUED, "it was sent, not fetched"


def test_what_is_just_being_sent_is_not_fetched_as_a_prior(
    collector, engine, associations, settings, seeker, archive, tmp_path
):
    """Its first instance has no row yet."""
    study = complete(collector, engine, associations, tmp_path)
    store = Store(engine, DataFolder(settings.node.data), 0)
    with Taker(store, associations, "PACS@there") as sender:
        associations.brings(sender, safe_name("1.2.30"))
        seeker.attempt(study.id, "pacs", 1)
    store.close()
    assert set(pulls(engine)) == {"1.2.31"}


def test_a_source_that_is_down_delays_nothing_and_is_asked_again(collector, engine, associations, seeker, tmp_path):
    study = complete(collector, engine, associations, tmp_path)
    first = seeker.attempt(study.id, "pacs", 1)
    assert (first.next_number, "cannot be reached" in first.said) == (2, True)
    assert 8 <= first.again_in <= 12
    assert seeker.attempt(study.id, "pacs", 2).next_number == 0
    left = study_of(engine, STUDY)
    assert (left.state, left.events[-1].what) == (State.QUEUED, "priors")
    assert "after 2 attempts" in left.events[-1].why
    assert pulls(engine) == {}


def test_what_nobody_foresaw_is_tried_again_and_ends(
    collector, engine, associations, seeker, tmp_path, monkeypatch, caplog
):
    def raises(*_: object) -> None:
        raise KeyError("what a library raises")

    study = complete(collector, engine, associations, tmp_path)
    monkeypatch.setattr("node.priors.way_to_ask", raises)
    assert seeker.attempt(study.id, "pacs", 1).next_number == 2
    assert "what a library raises" in caplog.text
    assert seeker.attempt(study.id, "pacs", 2).next_number == 0
    assert "KeyError" in study_of(engine, STUDY).events[-1].why


def test_priors_are_looked_for_once(collector, engine, associations, settings, starter, tmp_path):
    study = complete(collector, engine, associations, tmp_path)
    with writing(engine) as session:
        seek(session, session.get_one(Study, study.id), settings, starter)
    with engine.connect() as connection:
        due = connection.exec_driver_sql("SELECT count(*) FROM workflow_status WHERE name = 'seek_priors'").scalar_one()
    assert due == 1


def test_nothing_is_asked_at_the_wrong_hour_or_of_nobody(collector, engine, associations, settings, starter, tmp_path):
    study = complete(collector, engine, associations, tmp_path)

    def attempt(**changed: object) -> Outcome:
        source = settings.source[0].model_copy(update=changed)
        asked = settings.model_copy(update={"source": (source,)})
        return PriorSeeker(asked, engine, starter, associations).attempt(study.id, "pacs", 1)

    assert attempt(hours=(25, 25)).next_number == 1, "not counted as an attempt"
    assert "no priors configured any more" in attempt(priors=None).said
    with writing(engine) as session:
        session.get_one(Study, study.id).patient_id = " "
    assert "without Patient ID" in attempt().said


@pytest.mark.parametrize("begin", [actions.force, actions.retry])
def test_priors_are_looked_for_when_a_person_has_a_study_processed(
    collector, engine, associations, starter, settings, tmp_path, begin
):
    receive(engine, tmp_path, *SERIES)
    assert begin(engine, STUDY, settings, starter) == "run 1"
    assert starter.status(f"priors-{study_of(engine, STUDY).key}-pacs-1") == "ENQUEUED"


def test_nobody_is_asked_for_priors_unless_it_is_configured(engine, associations, starter, make_config, tmp_path):
    settings = load_settings(make_config(required='["t1", "low_dose"]'))
    study = complete(Collector(settings, engine, starter, associations), engine, associations, tmp_path)
    assert starter.status(f"priors-{study.key}-pacs-1") is None
