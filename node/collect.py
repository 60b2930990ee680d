"""Collecting: from instances that arrive in any order to a study that is complete (roles, then completeness).

A complete study and its workflow are committed in one transaction (shared engine notes, 9).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node import priors
from node.associations import Associations
from node.complete import (
    different_names,
    different_patient_ids,
    hold_reasons,
    missing_roles,
    not_arrived,
    patient_ids,
    unusable,
)
from node.database import writing
from node.engine import WorkStarter
from node.files import DataFolder
from node.header.instance import HeaderError, InstanceHeader, scan
from node.inputs import changed_roles, freeze
from node.inquire import Answer, Inquirer
from node.performed import Performed, is_everything_here, performed
from node.receive.record import is_unread
from node.roles.identify import SeriesFacts, identify
from node.routing.decide import Route
from node.routing.record import assign, refused_outright, route_for, turn_away, was_turned_away
from node.settings import Settings
from node.states import COLLECTING, State, Trigger, move
from node.tables import Event, Instance, Series, Study, now

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 1.0


class Collector:
    """Looks at the studies that something has come for, once a second and whenever an association closes."""

    def __init__(
        self, settings: Settings, engine: Engine, starter: WorkStarter, associations: Associations
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._starter = starter
        self._associations = associations
        self._inquirer = Inquirer(settings, engine, starter, self.wake)
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now: an association has closed."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping:
            try:
                self.look()
            except Exception:
                # The database is locked or gone for a while, say; everything is still there at the next look, and a
                # collector that ends would leave the node receiving for nothing.
                log.exception("the studies could not be looked at; the next try is in a second")
            self._wake.wait(_LOOK_EVERY_SECONDS)
            self._wake.clear()

    def look(self) -> None:
        """Judge every study that has something new, and move those whose time has come."""
        with Session(self._engine) as session:
            due = session.scalars(
                select(Study.id).where((Study.state == State.RECEIVING) | Study.unjudged).order_by(Study.id)
            ).all()
        for study_id in due:
            self._consider_safely(study_id)

    def _consider_safely(self, study_id: int) -> None:
        """One study that cannot be judged must not keep the others waiting: it becomes FAILED, with the reason."""
        try:
            if self._is_open(study_id):
                return
            read_headers(self._engine, DataFolder(self._settings.node.data), study_id)
            with writing(self._engine) as session:
                self._consider(session, session.get_one(Study, study_id))
        except SQLAlchemyError:
            raise
        except Exception as error:
            log.exception("study %d cannot be judged", study_id)
            with writing(self._engine) as session:
                study = session.get_one(Study, study_id)
                study.unjudged = False
                why = f"cannot be judged: {type(error).__name__}: {error}"
                if State(study.state) in COLLECTING:
                    move(session, study, Trigger.FAILED, why)
                else:
                    _note(session, study, f"late instances {why}")

    def _is_open(self, study_id: int) -> bool:
        with Session(self._engine) as session:
            return self._associations.is_open(session.get_one(Study, study_id).key)

    def _consider(self, session: Session, study: Study) -> None:
        if self._associations.is_open(study.key):
            return
        told = performed(session, study, self._settings)
        if study.unjudged:
            study.unjudged = False
            was_held, lacked = bool(study.held), set(study.missing)
            judge(session, study, self._settings, told)
            if State(study.state) not in COLLECTING:
                self._take_late(session, study, _news(session, study, was_held, lacked))
            elif (refusal := refused_outright(study, study_facts(study), self._settings.rule)) is not None:
                move(session, study, Trigger.UNWANTED, turn_away(session, study, refusal))
        if State(study.state) in COLLECTING and not priors.keep_as_prior(session, study):
            self._decide(session, study, told)

    def _take_late(self, session: Session, study: Study, news: str) -> None:
        """Something has come for a study that was complete. What changes nothing is noted; what does begins its
        collecting anew, and with it a new version of the result, unless a person or the configuration says otherwise.
        """
        if was_turned_away(session, study) and route_for(study, study_facts(study), self._settings.rule).process:
            move(session, study, Trigger.WANTED, "late instances: the rules do not turn it away any more")
            return
        if State(study.state) is State.PRIOR:
            _note(session, study, f"`quarterdose studies retry {study.key}` has it processed for itself")
        elif not news:
            _note(session, study, "they change nothing that the result is made of")
        elif State(study.state) is State.CANCELLED or self._settings.completeness.late_instances == "note":
            _note(session, study, f"{news}; `quarterdose studies retry {study.key}` takes them in")
        else:
            log.warning("study %s: late instances while it was %s: %s", study.key, study.state, news)
            move(session, study, Trigger.LATE, f"late instances: {news}")

    def _decide(self, session: Session, study: Study, told: Performed) -> None:
        completeness = self._settings.completeness
        quiet = (now() - study.last_received).total_seconds()
        said_so = completeness.on_association_close and self._associations.is_finished(study.key)
        everything = is_everything_here(session, study, told)
        # Late instances have shown that a release was not the end: only quiet can tell from now on.
        settled = everything or (said_so and study.run == 0) or quiet >= completeness.quiet_seconds
        gave_up = quiet >= completeness.give_up_seconds
        if settled and not gave_up and not study.held and self._more_is_coming(study):
            return
        complete = not study.missing and settled and (gave_up or everything or not study.missing_optional)
        if not complete and not (study.held and settled) and not (study.missing and gave_up):
            return
        route = route_for(study, study_facts(study), self._settings.rule)
        if not route.process:  # whatever it lacks: nobody wants to be told of a study that no rule wants
            move(session, study, Trigger.UNWANTED, turn_away(session, study, route))
        elif study.held:
            move(session, study, Trigger.FAILED, "; ".join(study.held))
        elif complete:
            why = "every required role is there, no slice missing"
            enqueue(session, study, self._starter, route, Trigger.COMPLETE, why)
            priors.seek(session, study, self._settings, self._starter)
        else:
            move(session, study, Trigger.GAVE_UP_WAITING, "; ".join(study.missing))

    def _more_is_coming(self, study: Study) -> bool:
        """Whether a source holds more of the study than has arrived, or is just being asked."""
        answer = self._inquirer.answer(study)
        if answer is None:
            if not route_for(study, study_facts(study), self._settings.rule).process:
                return False
            self._inquirer.ask(study)
            return True
        return answer in (Answer.ASKED, Answer.MORE)


def judge(session: Session, study: Study, settings: Settings, told: Performed) -> None:
    """Give every series its role and write down what the study still lacks; ``told``: what the modalities say."""
    for instance in _unread(session, study.id):  # those that came a moment ago
        instance.header = scan(settings.node.data / instance.path).to_json()
    facts = study_facts(study)
    decisions = identify(facts, settings.roles)
    for series in study.series:
        decision = decisions.get(series.series_instance_uid)
        if decision is not None:
            series.role, series.because = decision.role, decision.because
    _note_patient(session, study, facts)
    study.held = [*hold_reasons(facts), *unusable(decisions, facts)]
    completeness = settings.completeness
    study.missing = [
        *different_names(facts), *missing_roles(decisions, facts, completeness.required),
        *not_arrived(decisions, facts, completeness.required, told.made),
    ]  # fmt: skip
    study.missing_optional = [
        *missing_roles(decisions, facts, completeness.optional),
        *not_arrived(decisions, facts, completeness.optional, told.made),
    ]


def _note_patient(session: Session, study: Study, facts: Sequence[SeriesFacts]) -> None:
    """What is new about whose study it is: events, and the study under the Patient ID that all of it has now."""
    for line in (*different_patient_ids(facts), *different_names(facts)):
        if line not in (*study.held, *study.missing):
            log.warning("study %s: %s", study.key, line)
            session.add(Event(study_id=study.id, who="node", what="patient differs", why=line))
    ids = patient_ids(facts)
    if len(ids) == 1 and ids != {study.patient_id}:
        [patient_id] = ids
        why = f"every instance has Patient ID {patient_id!r} now, no longer {study.patient_id!r}"
        session.add(Event(study_id=study.id, who="node", what="patient changed", why=why))
        study.patient_id = patient_id


def read_headers(engine: Engine, data: DataFolder, study_id: int) -> None:
    """Read what the receiver had no time for, while nobody has to wait: it takes milliseconds for each instance.

    One that cannot be read is left to ``judge``, which says so.
    """
    with Session(engine) as session:
        unread = [(instance.id, data.root / instance.path) for instance in _unread(session, study_id)]
    for first in range(0, len(unread), _HEADERS_AT_ONCE):
        headers: dict[int, dict[str, Any]] = {}
        for instance_id, path in unread[first : first + _HEADERS_AT_ONCE]:
            with contextlib.suppress(HeaderError, OSError):
                headers[instance_id] = scan(path).to_json()
        with writing(engine) as session:
            for instance_id, header in headers.items():
                session.execute(update(Instance).where(Instance.id == instance_id).values(header=header))


def _unread(session: Session, study_id: int) -> Sequence[Instance]:
    return session.scalars(
        select(Instance).join(Series).where(Series.study_id == study_id, is_unread()).order_by(Instance.id)
    ).all()


_HEADERS_AT_ONCE = 50


def study_facts(study: Study) -> list[SeriesFacts]:
    """What is known of each series, from the headers of its current instances."""
    return [series_facts([instance for instance in series.instances if instance.current]) for series in study.series]


def series_facts(instances: Sequence[Instance]) -> SeriesFacts:
    """What is known of one series from the headers of these instances."""
    headers = [InstanceHeader.from_json(instance.header) for instance in instances]
    return SeriesFacts.of(headers, ae_title=instances[-1].sender.partition("@")[0])


def enqueue(
    session: Session, study: Study, starter: WorkStarter, route: Route, on: Trigger, why: str, who: str = "node"
) -> None:
    """Begin a new run over what the study holds now, in the caller's transaction; it goes as ``route`` says."""
    study.run += 1
    study.unjudged = False
    freeze(session, study)
    move(session, study, on, why, who)
    session.flush()
    starter.process(session, study, assign(session, study, route, who).priority)


def _news(session: Session, study: Study, was_held: bool, lacked: set[str]) -> str:
    """What late instances change about a study, which was held or lacked something before, in words; "" when its result
    would be the same."""
    if wrong := [*study.held, *(line for line in study.missing if line not in lacked)]:
        return "; ".join(wrong)
    if study.run == 0 or was_held:
        return "what kept it from being processed may be mended"
    roles = changed_roles(session, study)
    return f"there is something new of {', '.join(roles)}" if roles else ""


def _note(session: Session, study: Study, why: str) -> None:
    """An event, unless the same was said last: an association for each instance would say it hundreds of times."""
    why = f"while the study was {study.state}: {why}"
    last = session.scalar(select(Event).where(Event.study_id == study.id).order_by(Event.id.desc()).limit(1))
    if last is None or (last.what, last.why) != ("late instances", why):
        log.warning("study %s: late instances %s", study.key, why)
        session.add(Event(study_id=study.id, who="node", what="late instances", why=why))
