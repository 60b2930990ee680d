"""The decision on a study, written down with it: a run goes on as it was decided, whatever config.toml says later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from node.roles.series_facts import SeriesFacts
from node.routing.decide import WITHOUT_RULES, Route, StudyTraits, decide, refuse
from node.routing.rules import Priority, Rule
from node.tables import Event, RouteRow, Study
from preprocessing.role import Role


def traits_of(study: Study, facts: Iterable[SeriesFacts], at: datetime | None = None) -> StudyTraits:
    """What the rules ask of a study in the database; ``at`` is local time, now when left out."""
    roles = {series.series_instance_uid: Role(series.role) for series in study.series if series.role is not None}
    return StudyTraits.of(facts, dict(roles), at or datetime.now().astimezone())


def route_for(study: Study, facts: Iterable[SeriesFacts], rules: tuple[Rule, ...]) -> Route:
    """What the rules say of a study as it is now; nothing is written."""
    return decide(rules, traits_of(study, facts)) if rules else WITHOUT_RULES


def refused_outright(study: Study, facts: Iterable[SeriesFacts], rules: tuple[Rule, ...]) -> Route | None:
    """What turns the study away whatever may still come of it, if that can be said."""
    return refuse(rules, traits_of(study, facts)) if rules else None


def assign(session: Session, study: Study, route: Route, who: str) -> Route:
    """Write down how the study's present run goes. A person's word goes before a rule that would not process it."""
    if not route.process:
        because = f"{who} has it processed, although: {route.because}; {route.reason}"
        route = replace(route, process=True, reason="", because=because)
    _write(session, study, study.run, route)
    return route


def turn_away(session: Session, study: Study, route: Route) -> str:
    """Write down that the study gets no run; returns why, for its state."""
    _write(session, study, study.run + 1, route)
    return f'not processed by the rule "{route.rule}": {route.reason}'


def route_of(session: Session, study: Study) -> Route:
    """How the study's present run goes; what began before there were rules goes as without."""
    row = session.scalar(_newest(study).where(RouteRow.run == study.run))
    return WITHOUT_RULES if row is None else _route(row)


def last_decision(session: Session, study: Study) -> Route | None:
    """What the rules said last, also when that was to give it no run; None while nothing is decided."""
    row = session.scalar(_newest(study))
    return None if row is None else _route(row)


def was_turned_away(session: Session, study: Study) -> bool:
    """Whether a rule, and since then nobody, has spoken against processing what the study holds."""
    row = session.scalar(_newest(study))
    return row is not None and row.run > study.run and not row.process


def _newest(study: Study) -> Select[RouteRow]:
    return select(RouteRow).where(RouteRow.study_id == study.id).order_by(RouteRow.id.desc()).limit(1)


def _route(row: RouteRow) -> Route:
    places = None if row.destinations is None else tuple(row.destinations)
    return Route(row.rule, row.because, row.process, row.reason, row.model, places, Priority(row.priority))


def _write(session: Session, study: Study, run: int, route: Route) -> None:
    session.add(
        RouteRow(
            study_id=study.id, run=run, rule=route.rule, because=route.because, process=route.process,
            reason=route.reason, model=route.model, priority=route.priority,
            destinations=None if route.destinations is None else list(route.destinations),
        )
    )  # fmt: skip
    if route.rule:
        what = f'rule "{route.rule}" decides'
        session.add(Event(study_id=study.id, who="node", what=what, why=f"{route.follows}; {route.because}"))
