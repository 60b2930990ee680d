"""Inquiring: what the sources hold of a study that has settled, and having the rest of it fetched.

It has a thread of its own: the collector asks, goes on with other studies, and finds the answer at a later look.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import writing
from node.engine import WorkStarter
from node.retrieve import CANCELLED, FAILED, request, seconds_until_open, taken_classes
from node.sender import NotOfferedError, SendError
from node.settings import Settings, Source
from node.source import Search
from node.states import COLLECTING, State
from node.tables import DerivedSeriesRow, Event, Instance, Pull, Series, Study
from node.ways import way_to_ask

log = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 60.0  # a scanner may still be sending to the source
_REMEMBERED = 10_000


class Answer(StrEnum):
    """What is known of a study at the sources."""

    ASKED = "asked"
    MORE = "more than has arrived"
    NOTHING_MORE = "nothing more"
    UNKNOWN = "no source says"


@dataclass
class _Question:
    """What was asked when the study's last instance was of ``as_of``; ``since`` by the monotonic clock."""

    as_of: datetime
    since: float
    answer: Answer = Answer.ASKED


@dataclass
class _Silence:
    """A source that could not be asked ``failures`` times is left alone ``until`` then (monotonic clock)."""

    failures: int
    until: float


class Inquirer:
    """Asks the sources about studies, one study after another; ``on_answer`` is called after each.

    The count of what has *arrived* decides: series by series, and instance by instance where a series has more.
    """

    def __init__(
        self, settings: Settings, engine: Engine, starter: WorkStarter, on_answer: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._starter = starter
        self._on_answer = on_answer
        self._questions: dict[int, _Question] = {}
        self._due: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._silent: dict[str, _Silence] = {}
        self._thread: threading.Thread | None = None

    def answer(self, study: Study) -> Answer | None:
        """What is known since the study's last instance came, without waiting; None when it is to be asked (again).

        A question that takes longer than a source may be silent is UNKNOWN until it is answered.
        """
        if not self._settings.retrieval.complete_studies or not self._settings.source:
            return Answer.UNKNOWN
        question = self._questions.get(study.id)
        if question is None or question.as_of != study.last_received:
            return None
        age = time.monotonic() - question.since
        if question.answer is Answer.ASKED:
            return Answer.ASKED if age < self._settings.retrieval.timeout_seconds else Answer.UNKNOWN
        return question.answer if age < _ASK_AGAIN_SECONDS else None

    def ask(self, study: Study) -> None:
        """Have the sources asked; returns at once."""
        if len(self._questions) > _REMEMBERED:
            self._questions.clear()
        self._questions[study.id] = _Question(study.last_received, time.monotonic())
        self._due.put(study.id)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="inquirer", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            study_id = self._due.get()
            question = self._questions.get(study_id)
            if question is None:
                continue
            try:
                answer = self._inquire(study_id)
            except Exception:
                # The database is locked for a while, or a source answers what nobody foresaw: no study may wait for it.
                log.exception("the sources could not be asked about study %d", study_id)
                answer = Answer.UNKNOWN
            question.since, question.answer = time.monotonic(), answer
            self._on_answer()

    def _inquire(self, study_id: int) -> Answer:
        with Session(self._engine) as session:
            study = session.get_one(Study, study_id)
            uid, held, senders = study.study_instance_uid, _held(session, study), _senders(session, study)
        answer = Answer.UNKNOWN
        # Where it came from knows best.
        for source in sorted(self._settings.source, key=lambda source: title_of(source.sender) not in senders):
            lacking = self._lacking(source, uid, held)
            if lacking:
                self._fetch(study_id, source, lacking)
                return Answer.MORE
            if lacking is not None:
                answer = Answer.NOTHING_MORE
        with writing(self._engine) as session:
            study = session.get_one(Study, study_id)
            if State(study.state) in COLLECTING:
                study.doing = ""
        return answer

    def _lacking(self, source: Source, uid: str, held: Mapping[str, set[str]]) -> int | None:
        """How many instances of the study the source holds that this node would take and has not got; None when it
        cannot be asked now."""
        silence = self._silent.get(source.name, _Silence(0, 0.0))
        if seconds_until_open(source.hours, datetime.now().astimezone()) or time.monotonic() < silence.until:
            return None
        retrieval = self._settings.retrieval
        try:
            with way_to_ask(source, self._settings) as place:
                lacking = self._count(place, uid, held)
        except (SendError, NotOfferedError) as error:
            failures = silence.failures + 1
            pause = retrieval.backoff(failures)
            self._silent[source.name] = _Silence(failures, time.monotonic() + pause)
            log.warning("%s cannot be asked what it holds: %s; not for the next %g s", source.name, error, pause)
            return None
        self._silent.pop(source.name, None)
        return lacking

    def _count(self, place: Search, uid: str, held: Mapping[str, set[str]]) -> int:
        everything = {instance for instances in held.values() for instance in instances}
        takes = taken_classes(self._settings)
        lacking = 0
        for series in place.series(uid):
            here = held.get(series.series_instance_uid, set())
            if series.modality not in (*self._settings.retrieval.modalities, "") or _OURS in here:
                continue
            if series.instances and series.instances <= len(here):  # a count of 0 is no count
                continue
            there = place.instances(uid, series.series_instance_uid)
            lacking += len({one.sop_instance_uid for one in there if one.sop_class_uid in takes} - everything)
        return lacking

    def _fetch(self, study_id: int, source: Source, lacking: int) -> None:
        """Begin a pull for what is lacking, unless that was tried since the last instance came, or called off."""
        with writing(self._engine) as session:
            study = session.get_one(Study, study_id)
            if State(study.state) not in COLLECTING:
                return
            more = f"{source.name} holds {lacking} instances more than have arrived"
            study.doing = more
            last = session.scalar(
                select(Pull)
                .where(Pull.study_instance_uid == study.study_instance_uid, Pull.source == source.name)
                .order_by(Pull.id.desc())
            )
            if last is not None and (last.state == CANCELLED or _in_vain(last, study)):
                return
            pull = request(session, self._starter, study.study_instance_uid, source.name, "node", more)
            if last is None or pull.id != last.id:
                log.info("study %s: %s; pull %d", study.key, more, pull.id)
                why = f"{more}; pull {pull.id} fetches them"
                session.add(Event(study_id=study.id, who="node", what="the rest is fetched", why=why))


_OURS = "ours"


def _held(session: Session, study: Study) -> dict[str, set[str]]:
    """SOP Instance UIDs by Series Instance UID; a series that this node made is marked as such."""
    held: dict[str, set[str]] = {}
    received = select(Series.series_instance_uid, Instance.sop_instance_uid).join(Instance.series)
    for series, instance in session.execute(received.where(Series.study_id == study.id)):
        held.setdefault(series, set()).add(instance)
    for made in session.scalars(
        select(DerivedSeriesRow.series_instance_uid).where(DerivedSeriesRow.study_id == study.id)
    ):
        held.setdefault(made, set()).add(_OURS)
    return held


def _senders(session: Session, study: Study) -> set[str]:
    """The AE titles that sent something of the study."""
    senders = select(Instance.sender).join(Instance.series).where(Series.study_id == study.id).distinct()
    return {title_of(sender) for sender in session.scalars(senders)}


def title_of(sender: str) -> str:
    """The AE title of a sender, as it is recorded with an instance."""
    return sender.partition("@")[0]


def _in_vain(pull: Pull, study: Study) -> bool:
    return pull.state == FAILED and pull.ended is not None and pull.ended >= study.last_received
