"""Retrieving: a study fetched from a PACS, by C-MOVE, C-GET or DICOMweb, until what was to come has arrived.

The count of what *arrived* decides, never a status. Each further attempt asks more finely: the study,
then the series that lack something, then the instances. A pull is a row and a durable workflow, so it survives a
restart; waiting holds no worker (engine note 11).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.database import writing
from node.engine import WorkStarter, priors_from, pulls_from
from node.receive import storage_classes
from node.receive.store import Store
from node.sender import NotOfferedError, SendError
from node.settings import RetrievalSettings, Settings, Source
from node.source import Part, Retrieval, Search, Stopped, StoppedError
from node.states import State, Trigger, move
from node.tables import Event, Instance, Pull, Series, Study, now
from node.taker import Taker
from node.ways import way_to_retrieve

log = logging.getLogger(__name__)

QUEUED, RETRIEVING, DONE, FAILED, CANCELLED = "QUEUED", "RETRIEVING", "DONE", "FAILED", "CANCELLED"
OPEN = (QUEUED, RETRIEVING)
_BY_SERIES, _BY_INSTANCE = 2, 3  # from which attempt on
INSTANCES_AT_ONCE = 50  # UIDs in one identifier
_LOOK_EVERY_SECONDS = 0.5  # whether a pull was cancelled
_QUIET_SECONDS = 2.0  # a C-MOVE's last instances may still be on their way when its final answer comes
_SETTLE_SECONDS = 10.0  # for the rows of what has arrived
_JITTER = 0.2

Wanted = dict[str, set[str]]
"""SOP Instance UIDs by Series Instance UID."""


@dataclass(frozen=True)
class Holding:
    """What a source holds of a study and this node takes. ``told``: how many instances it counts in each series of
    which it lists fewer; of what class the others are is not known."""

    wanted: Wanted
    told: dict[str, int]


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to; when another is due, its number and in how many seconds."""

    said: str
    next_number: int = 0
    again_in: float = 0.0


class Retriever:
    """Does one attempt of a pull at a time; raises nothing that a peer could cause. ``store`` is the receiver's."""

    def __init__(self, settings: Settings, engine: Engine, store: Store, associations: Associations) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._associations = associations

    def attempt(self, pull_id: int, number: int) -> Outcome:
        """Fetch what the pull still lacks. A replayed attempt finds what arrived the first time."""
        pull = self._begin(pull_id, number)
        if pull is None:
            return Outcome("cancelled")
        source = next((one for one in self._settings.source if one.name == pull.source), None)
        if source is None:
            return self._end(pull_id, FAILED, unknown_source(pull))
        closed = seconds_until_open(source.hours, datetime.now().astimezone())
        if closed:
            return self._later(pull_id, number, f"{source.name} may not be asked at this hour", closed)
        try:
            return self._fetch(pull, source, number)
        except StoppedError:
            return Outcome("cancelled")
        except NotOfferedError as error:
            return self._end(pull_id, FAILED, f"{error}; it cannot be retrieved from")
        except SendError as error:
            return self._not_yet(pull_id, number, str(error))
        except Exception as error:
            # The database is locked for a while, or a source answers what nobody foresaw: no pull may be left open.
            log.exception("attempt %d of pull %d failed", number, pull_id)
            return self._not_yet(pull_id, number, f"{type(error).__name__}, of which the log says more")

    def _fetch(self, pull: Pull, source: Source, number: int) -> Outcome:
        with Taker(self._store, self._associations, source.sender) as taker:
            with way_to_retrieve(source, self._settings, taker) as place:
                holding = self._holding(place, pull.study_instance_uid)
                wanted = holding.wanted
                total = sum(len(instances) for instances in wanted.values())
                if not total and not holding.told:
                    return self._end(pull.id, FAILED, f"{source.name} holds nothing of this study that this node takes")
                lacking = self._lacking(pull.study_instance_uid, wanted)
                self._count(pull.id, total, lacking)
                said = self._ask(place, pull, holding, lacking, number)
            lacking = self._settle(pull, wanted, total)
            unlisted = self._unlisted(pull.study_instance_uid, holding)
            if not lacking and not unlisted:
                taker.whole()
        if not lacking and not unlisted:
            return self._end(pull.id, DONE, f"{_counted(holding)} instances are here")
        short = sum(len(instances) for instances in lacking.values())
        problem = f"{short} of {total} instances have not arrived"
        if not lacking:
            more, where = sum(unlisted.values()), ", ".join(unlisted)
            problem = f"{source.name} counts {more} instances more than it lists, in series {where}"
        return self._not_yet(pull.id, number, f"{problem} ({said})" if said else problem)

    def _holding(self, place: Search, study: str) -> Holding:
        takes = taken_classes(self._settings)
        wanted: Wanted = {}
        told: dict[str, int] = {}
        for series in place.series(study):
            if series.modality not in (*self._settings.retrieval.modalities, ""):
                continue
            listed = place.instances(study, series.series_instance_uid)
            if series.instances is not None and len(listed) < series.instances:
                told[series.series_instance_uid] = series.instances
            if taken := {found.sop_instance_uid for found in listed if found.sop_class_uid in takes}:
                wanted[series.series_instance_uid] = taken
        return Holding(wanted, told)

    def _unlisted(self, study: str, holding: Holding) -> dict[str, int]:
        """How many instances of which series the source counts, does not list, and has not sent nevertheless."""
        if not holding.told:
            return {}
        self._store.settle(_SETTLE_SECONDS)
        with Session(self._engine) as session:
            counted = (
                select(Series.series_instance_uid, func.count()).select_from(Instance).join(Series).join(Study)
                .where(Study.study_instance_uid == study).group_by(Series.series_instance_uid)
            )  # fmt: skip
            here = {row[0]: row[1] for row in session.execute(counted)}
        short = {series: told - here.get(series, 0) for series, told in holding.told.items()}
        return {series: count for series, count in short.items() if count > 0}

    def _lacking(self, study: str, wanted: Mapping[str, set[str]]) -> Wanted:
        self._store.settle(_SETTLE_SECONDS)
        with Session(self._engine) as session:
            held = set(
                session.scalars(
                    select(Instance.sop_instance_uid).join(Series).join(Study)
                    .where(Study.study_instance_uid == study)
                )
            )  # fmt: skip
        return {series: instances - held for series, instances in wanted.items() if instances - held}

    def _ask(self, place: Retrieval, pull: Pull, holding: Holding, lacking: Wanted, number: int) -> str:
        """Ask for what is lacking, the more finely the later the attempt; returns what the answers complained of."""
        study, stopped, said = pull.study_instance_uid, self._cancellation(pull.id), ""
        if number < _BY_SERIES and lacking == holding.wanted:
            return place.retrieve(Part(study), stopped)
        for series in self._unlisted(study, holding):  # by name they cannot be asked for
            said = place.retrieve(Part(study, series), stopped) or said
        for series, instances in lacking.items():
            if number < _BY_INSTANCE:
                said = place.retrieve(Part(study, series), stopped) or said
                continue
            names = sorted(instances)
            for start in range(0, len(names), INSTANCES_AT_ONCE):
                some = tuple(names[start : start + INSTANCES_AT_ONCE])
                said = place.retrieve(Part(study, series, some), stopped) or said
        return said

    def _cancellation(self, pull_id: int) -> Stopped:
        """Whether the pull has been cancelled; the database is asked now and then, not for every instance."""
        cancelled, looked = False, -math.inf

        def stopped() -> bool:
            nonlocal cancelled, looked
            if time.monotonic() - looked > _LOOK_EVERY_SECONDS:
                looked = time.monotonic()
                with Session(self._engine) as session:
                    cancelled = session.get_one(Pull, pull_id).state == CANCELLED
            return cancelled

        return stopped

    def _settle(self, pull: Pull, wanted: Wanted, total: int) -> Wanted:
        """What is lacking once nothing more arrives."""
        before, since = -1, time.monotonic()
        while True:
            lacking = self._lacking(pull.study_instance_uid, wanted)
            short = sum(len(instances) for instances in lacking.values())
            if short != before:
                before, since = short, time.monotonic()
                self._count(pull.id, total, lacking)
            if not short or time.monotonic() - since > _QUIET_SECONDS:
                return lacking
            time.sleep(0.2)

    def _begin(self, pull_id: int, number: int) -> Pull | None:
        with writing(self._engine) as session:
            pull = session.get_one(Pull, pull_id)
            if pull.state not in OPEN:
                return None
            pull.state, pull.attempts = RETRIEVING, number
            session.flush()
            session.refresh(pull)
            session.expunge(pull)
            return pull

    def _count(self, pull_id: int, total: int, lacking: Wanted) -> None:
        with writing(self._engine) as session:
            pull = session.get_one(Pull, pull_id)
            pull.expected = total
            pull.arrived = total - sum(len(instances) for instances in lacking.values())

    def _not_yet(self, pull_id: int, number: int, problem: str) -> Outcome:
        retrieval = self._settings.retrieval
        if number >= retrieval.attempts:
            return self._end(pull_id, FAILED, f"after {number} attempts: {problem}; `quarterdose pull` asks again")
        return self._later(pull_id, number + 1, f"attempt {number}: {problem}", pause_after(number, retrieval))

    def _later(self, pull_id: int, number: int, why: str, pause: float) -> Outcome:
        with writing(self._engine) as session:
            pull = session.get_one(Pull, pull_id)
            if pull.state == CANCELLED:
                return Outcome("cancelled")
            pull.state, pull.reason = QUEUED, f"{why}; attempt {number} in {pause:.0f} s"
            log.warning("pull %d from %s: %s", pull_id, pull.source, pull.reason)
        return Outcome(why, number, pause)

    def _end(self, pull_id: int, state: str, why: str) -> Outcome:
        with writing(self._engine) as session:
            end(session, session.get_one(Pull, pull_id), state, why)
        return Outcome(why)


def _counted(holding: Holding) -> int:
    """How many instances the source holds, by its list or, where that is the longer, by its count."""
    listed = {series: len(instances) for series, instances in holding.wanted.items()}
    return sum((listed | holding.told).values())


def end(session: Session, pull: Pull, state: str, why: str) -> None:
    """Write down that a pull is over, and why; one that was cancelled stays that."""
    if pull.state != CANCELLED:
        pull.state, pull.reason, pull.ended = state, why, now()
    study = session.scalar(select(Study).where(Study.study_instance_uid == pull.study_instance_uid))
    what = f"pull from {pull.source}: {state}"
    session.add(Event(study_id=study.id if study else None, who=pull.asked_by, what=what, why=why))
    log.info("pull %d from %s: %s: %s", pull.id, pull.source, state, why)


def unknown_source(pull: Pull) -> str:
    """Why nothing can be fetched from there, and what to do."""
    return (
        f"this node has no [[source]] {pull.source}; put it into the configuration and restart the node, then "
        f"`quarterdose pull --study {pull.study_instance_uid}` again, or fetch it from another by --from"
    )


def taken_classes(settings: Settings) -> set[str]:
    """The SOP Class UIDs that are fetched; "" for an instance whose class the source does not tell."""
    return {*storage_classes(settings), ""}


def request(
    session: Session, starter: WorkStarter, study_instance_uid: str, source: str, who: str, why: str, prior_of: str = ""
) -> Pull:
    """Enter a pull and start it, in the caller's transaction; one that is open for the study already is returned.

    ``prior_of``: the key of the study that it is a prior of. One that was fetched as a prior until now and is asked for
    without it is collected like any other.
    """
    if not prior_of:
        _take_for_itself(session, study_instance_uid, who)
    known = session.scalar(
        select(Pull).where(
            Pull.study_instance_uid == study_instance_uid, Pull.source == source, Pull.state.in_(OPEN)
        )
    )
    if known is not None:
        known.prior_of = known.prior_of and prior_of
        return known
    pull = Pull(
        study_instance_uid=study_instance_uid, source=source, asked_by=who, state=QUEUED, reason=why, prior_of=prior_of
    )
    session.add(pull)
    session.flush()
    starter.pull(session, pull.id, source, is_prior=bool(prior_of))
    return pull


def _take_for_itself(session: Session, study_instance_uid: str, who: str) -> None:
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    if study is not None and State(study.state) is State.PRIOR:
        move(session, study, Trigger.PULLED, "fetched for itself, no longer as a prior", who)
        study.unjudged = True


def pause_after(number: int, retrieval: RetrievalSettings) -> float:
    """Seconds from failed attempt ``number`` to the next: never quite the same, lest all come back at once."""
    return retrieval.backoff(number) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret


def seconds_until_open(hours: tuple[int, ...], moment: datetime) -> float:
    """How long until a source may be asked: 0 within its ``hours`` (from, to; over midnight too), or without any."""
    if not hours:
        return 0.0
    begin, end = hours
    here = moment.hour + moment.minute / 60 + moment.second / 3600
    inside = begin <= here < end if begin <= end else here >= begin or here < end
    return 0.0 if inside else ((begin - here) % 24) * 3600


def register(retriever: Retriever) -> None:
    """Make the workflow known to the engine. To be called once, before it is launched."""

    def attempt(pull: int, number: int) -> dict[str, Any]:
        return asdict(retriever.attempt(pull, number))

    @DBOS.workflow(name="retrieve", max_recovery_attempts=None)
    def retrieve(pull: int, source: str, number: int, turn: int, is_prior: bool = False) -> None:
        # ``turn`` counts what was begun, ``number`` what counts as an attempt: waiting for a source's hours is none.
        outcome = Outcome(**DBOS.run_step({"name": "attempt"}, attempt, pull, number))
        if outcome.next_number:
            with SetWorkflowID(f"pull-{pull}-{turn + 1}"), SetEnqueueOptions(delay_seconds=outcome.again_in):
                queue = priors_from(source) if is_prior else pulls_from(source)
                DBOS.enqueue_workflow(queue, retrieve, pull, source, outcome.next_number, turn + 1, is_prior)
