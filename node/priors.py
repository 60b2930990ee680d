"""Priors: a patient's earlier studies, fetched from a source that has ``priors`` configured, once a study is complete.

They are looked for beside the study's own path: whatever goes wrong with them delays nothing. A study that has come for
no other reason than this is kept as PRIOR, and never processed unless a person asks for it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.database import writing
from node.engine import WorkStarter, priors_from
from node.files import DataFolder, safe_name
from node.retrieve import CANCELLED, OPEN, Outcome, pause_after, request, seconds_until_open
from node.sender import NotOfferedError, SendError
from node.settings import PriorSettings, Settings, Source
from node.source import StudyFound
from node.states import Trigger, move
from node.tables import Event, Instance, Pull, Series, Study
from node.ways import way_to_ask

log = logging.getLogger(__name__)

_DAYS_OF_A_YEAR = 365.25
_LATE = timedelta(minutes=1)  # a C-MOVE's instances may still come once its pull has ended


@dataclass(frozen=True)
class Present:
    """The study whose priors are looked for: of whom, and of which day. ``issuer`` is the Issuer of Patient ID."""

    study_instance_uid: str
    patient_id: str
    issuer: str
    day: date


def choose(
    found: Iterable[StudyFound], present: Present, wanted: PriorSettings, is_of_modality: Callable[[StudyFound], bool]
) -> list[StudyFound]:
    """The newest earlier studies of the same patient, at most ``wanted.newest``, the newest first.

    A study of the same day is none: it may be on its way here to be processed for itself. Two Issuers of Patient ID
    that differ are two patients; a side that does not name one contradicts nobody. ``is_of_modality`` is asked last,
    and of no more studies than are needed.
    """
    earlier = {one.study_instance_uid: one for one in found if _is_earlier(one, present, wanted)}
    newest_first = sorted(earlier.values(), key=lambda one: (one.study_date, one.study_instance_uid), reverse=True)
    return list(islice(filter(is_of_modality, newest_first), wanted.newest))


def _is_earlier(one: StudyFound, present: Present, wanted: PriorSettings) -> bool:
    day = _day(one.study_date)
    return (
        one.study_instance_uid != present.study_instance_uid
        and one.patient_id.strip() == present.patient_id  # the source may have matched "*" and "?" in it
        and (not one.issuer.strip() or not present.issuer or one.issuer.strip() == present.issuer)
        and day is not None and _oldest(present, wanted) <= day < present.day
        and re.search(wanted.study_description, one.description, re.IGNORECASE) is not None
    )  # fmt: skip


def _oldest(present: Present, wanted: PriorSettings) -> date:
    days = wanted.years * _DAYS_OF_A_YEAR
    return present.day - timedelta(days=min(days, present.day.toordinal() - 1))


def _day(study_date: str) -> date | None:
    """A DA (PS3.5 section 6.2), None when it is empty or none."""
    try:
        return datetime.strptime(study_date.strip(), "%Y%m%d").date()
    except ValueError:
        return None


def seek(session: Session, study: Study, settings: Settings, starter: WorkStarter) -> None:
    """Have the priors of a study looked for wherever that is configured, in the caller's transaction; once for each
    study and source, however often it is said."""
    for source in settings.source:
        if source.priors is not None:
            starter.seek_priors(session, study, source.name)


def keep_as_prior(session: Session, study: Study) -> bool:
    """Whether a study has come only because it was fetched as a prior: its first instance came while that went on.
    Once nothing more comes it is PRIOR. One that a person has had processed is no longer."""
    if study.run:
        return False
    pulls = session.scalars(
        select(Pull).where(Pull.study_instance_uid == study.study_instance_uid).order_by(Pull.id)
    ).all()
    bringing = [pull for pull in pulls if _may_have_brought(pull, study)]
    if not bringing or not all(pull.prior_of for pull in pulls):
        return False
    last = bringing[-1]
    if any(pull.state in OPEN for pull in pulls):
        study.doing = f"being fetched as a prior of study {last.prior_of}"
        return True
    asked = f"fetched as a prior of study {last.prior_of} ({last.reason})"
    move(session, study, Trigger.PRIOR, f"{asked}; `quarterdose studies retry {study.key}` has it processed for itself")
    return True


def _may_have_brought(pull: Pull, study: Study) -> bool:
    """Whether it was under way when the study's first instance came; else somebody has sent the study."""
    return pull.asked <= study.first_received and (pull.ended is None or study.first_received <= pull.ended + _LATE)


class PriorSeeker:
    """Does one attempt to find a study's priors at a time; raises nothing that a source could cause."""

    def __init__(
        self, settings: Settings, engine: Engine, starter: WorkStarter, associations: Associations
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._starter = starter
        self._associations = associations

    def attempt(self, study_id: int, source_name: str, number: int) -> Outcome:
        """Ask one source, and begin pulls for what it has. A replayed attempt begins none twice."""
        source = next((one for one in self._settings.source if one.name == source_name), None)
        if source is None or source.priors is None:
            return self._tell(study_id, f"[[source]] {source_name} has no priors configured any more")
        closed = seconds_until_open(source.hours, datetime.now().astimezone())
        if closed:
            return Outcome(f"{source.name} may not be asked at this hour", number, closed)
        try:
            present = self._present(study_id)
            if present is None:
                return self._tell(study_id, "without Patient ID and Study Date none can be looked for")
            return self._fetch(study_id, source, self._ask(source, source.priors, present))
        except NotOfferedError as error:
            return self._tell(study_id, f"{error}; no priors from there")
        except (SendError, OSError) as error:
            return self._not_yet(study_id, number, str(error))
        except Exception as error:  # the database is locked for a while, or a source answers what nobody foresaw
            log.exception("attempt %d to find the priors of study %d failed", number, study_id)
            return self._not_yet(study_id, number, f"{type(error).__name__}, of which the log says more")

    def _present(self, study_id: int) -> Present | None:
        with Session(self._engine) as session:
            study = session.get_one(Study, study_id)
            received = select(Instance.path).join(Series).where(Series.study_id == study_id, Instance.current).limit(1)
            path = DataFolder(self._settings.node.data).root / session.scalars(received).one()
            day = _day(study.study_date)
            if not study.patient_id.strip() or day is None:
                return None
            head = dcmread(path, stop_before_pixels=True, specific_tags=["IssuerOfPatientID"])
            issuer = str(head.get("IssuerOfPatientID") or "").strip()
            return Present(study.study_instance_uid, study.patient_id.strip(), issuer, day)

    def _ask(self, source: Source, wanted: PriorSettings, present: Present) -> list[StudyFound]:
        keys = Dataset()
        keys.PatientID = present.patient_id
        keys.StudyDate = f"{_oldest(present, wanted):%Y%m%d}-{present.day - timedelta(days=1):%Y%m%d}"
        modalities = set(self._settings.retrieval.modalities)
        with way_to_ask(source, self._settings) as place:

            def is_of_modality(study: StudyFound) -> bool:
                told = study.modalities or {one.modality for one in place.series(study.study_instance_uid)}
                return not modalities.isdisjoint(told)

            return choose(place.studies(keys), present, wanted, is_of_modality)

    def _fetch(self, study_id: int, source: Source, chosen: Sequence[StudyFound]) -> Outcome:
        with writing(self._engine) as session:
            study = session.get_one(Study, study_id)
            lines = []
            for one in chosen:
                if self._is_here(session, one) or _is_asked_for(session, one):
                    lines.append(f"{one.study_date} is here or was asked for already")
                    continue
                why = f"a prior of study {study.key}"
                pull = request(
                    session, self._starter, one.study_instance_uid, source.name, "node", why, prior_of=study.key
                )
                lines.append(f"{one.study_date} is fetched by pull {pull.id}")
            why = f"{source.name}: {'; '.join(lines) or 'no earlier study of this patient is wanted'}"
            session.add(Event(study_id=study_id, who="node", what="priors", why=why))
        return Outcome(why)

    def _is_here(self, session: Session, one: StudyFound) -> bool:
        """What is here, or just coming, has not come as a prior."""
        uid = one.study_instance_uid
        known = session.scalar(select(Study.id).where(Study.study_instance_uid == uid)) is not None
        return known or self._associations.is_open(safe_name(uid))

    def _not_yet(self, study_id: int, number: int, problem: str) -> Outcome:
        retrieval = self._settings.retrieval
        if number >= retrieval.attempts:
            return self._tell(study_id, f"after {number} attempts: {problem}; the study goes without")
        return Outcome(problem, number + 1, pause_after(number, retrieval))

    def _tell(self, study_id: int, why: str) -> Outcome:
        with writing(self._engine) as session:
            session.add(Event(study_id=study_id, who="node", what="priors", why=why))
        return Outcome(why)


def _is_asked_for(session: Session, one: StudyFound) -> bool:
    """Whether it is being fetched, from wherever, or a person has called that off."""
    last = session.scalar(
        select(Pull).where(Pull.study_instance_uid == one.study_instance_uid).order_by(Pull.id.desc()).limit(1)
    )
    return last is not None and last.state in (*OPEN, CANCELLED)


def register(seeker: PriorSeeker) -> None:
    """Make the workflow known to the engine. To be called once, before it is launched."""

    def attempt(study: int, source: str, number: int) -> dict[str, Any]:
        return asdict(seeker.attempt(study, source, number))

    @DBOS.workflow(name="seek_priors", max_recovery_attempts=None)
    def seek_priors(study: int, key: str, source: str, number: int, turn: int) -> None:
        outcome = Outcome(**DBOS.run_step({"name": "attempt"}, attempt, study, source, number))
        if outcome.next_number:
            identity = f"priors-{key}-{source}-{turn + 1}"
            with SetWorkflowID(identity), SetEnqueueOptions(delay_seconds=outcome.again_in):
                DBOS.enqueue_workflow(
                    priors_from(source), seek_priors, study, key, source, outcome.next_number, turn + 1
                )
