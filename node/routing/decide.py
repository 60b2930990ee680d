"""Which rule decides on a study, and why each of them does or does not: pure functions over headers and a clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from node.roles.series_facts import SeriesFacts
from node.routing.rules import Priority, Rule
from preprocessing.role import Role

_SHOWN = 6  # values of a study that a sentence quotes


@dataclass(frozen=True)
class StudyTraits:
    """What the conditions ask about. The texts have the keys of the conditions; each holds the different values of the
    study's series, without what Quarterdose made. ``at`` is the node's local time of the decision.
    """

    at: datetime
    roles: frozenset[Role]
    ae_title: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    study_description: tuple[str, ...] = ()
    series_description: tuple[str, ...] = ()
    protocol_name: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    manufacturer: tuple[str, ...] = ()
    model_name: tuple[str, ...] = ()
    station_name: tuple[str, ...] = ()
    field_strength: tuple[float, ...] = ()
    dose: float | None = None
    age: int | None = None
    requested_priority: str = ""

    @classmethod
    def of(cls, series: Iterable[SeriesFacts], roles: Mapping[str, Role | None], at: datetime) -> StudyTraits:
        """Gather them; ``roles`` are by Series Instance UID."""
        received = [facts for facts in series if not facts.lead.ours]
        leads = [facts.lead for facts in received]
        low_dose = [facts.lead for facts in received if roles.get(facts.uid) is Role.LOW_DOSE]
        given = {role for facts in received if (role := roles.get(facts.uid)) is not None}
        return cls(
            at,
            frozenset(given | ({Role.ADC} if Role.DWI in given else set())),  # an ADC is computed from a DWI
            ae_title=_different(facts.ae_title for facts in received),
            modality=_different(lead.modality for lead in leads),
            study_description=_different(lead.study_description for lead in leads),
            series_description=_different(lead.series_description for lead in leads),
            protocol_name=_different(lead.protocol_name for lead in leads),
            body_part=_different(lead.body_part for lead in leads),
            manufacturer=_different(lead.manufacturer for lead in leads),
            model_name=_different(lead.model_name for lead in leads),
            station_name=_different(lead.station_name for lead in leads),
            field_strength=tuple(sorted({lead.field_t for lead in leads if lead.field_t is not None})),
            dose=next((lead.dose_mmol_kg for lead in low_dose), None),
            age=next((lead.patient_age_years for lead in leads if lead.patient_age_years is not None), None),
            requested_priority=next((lead.requested_priority for lead in leads if lead.requested_priority), ""),
        )


@dataclass(frozen=True)
class Finding:
    """One condition of a rule held against a study."""

    condition: str
    holds: bool
    because: str


@dataclass(frozen=True)
class Judgement:
    """One rule held against a study; it fits when every condition holds."""

    rule: Rule
    findings: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def because(self) -> str:
        """Why it fits, or what keeps it from fitting."""
        told = [finding.because for finding in self.findings if self.fits or not finding.holds]
        return "; ".join(told) or "it has no condition"


@dataclass(frozen=True)
class Route:
    """What becomes of a study. ``rule`` is empty where there are none; ``model`` where [model] says which weights;
    ``destinations`` is None where every one gets the result.
    """

    rule: str
    because: str
    process: bool = True
    reason: str = ""
    model: str = ""
    destinations: tuple[str, ...] | None = None
    priority: Priority = Priority.ROUTINE

    def goes_to(self, destination: str) -> bool:
        """Whether this destination gets the result."""
        return self.destinations is None or destination in self.destinations

    @property
    def follows(self) -> str:
        """What follows, in words."""
        if not self.process:
            return f"not processed: {self.reason}"
        places = "every destination" if self.destinations is None else ", ".join(self.destinations)
        weights = f", with the weights in {self.model}" if self.model else ""
        return f"processed{weights}, for {places}, priority {self.priority}"


WITHOUT_RULES = Route("", "no [[rule]] is configured")


def judge(rule: Rule, study: StudyTraits) -> Judgement:
    """Hold every condition of a rule against a study."""
    return Judgement(rule, tuple(_finding(rule, key, study) for key in rule.conditions))


def decide(rules: Sequence[Rule], study: StudyTraits) -> Route:
    """The route by the first rule that fits; the last one always does (``check_rules``)."""
    for rule in rules:
        judgement = judge(rule, study)
        if judgement.fits:
            return _route(judgement, study)
    return WITHOUT_RULES


def refuse(rules: Sequence[Rule], study: StudyTraits) -> Route | None:
    """The route of a rule that turns the study away whatever may still come of it; None where that cannot be said yet.

    More series meet more conditions, never fewer. So a rule that fits decides for good unless one that processes stands
    before it, or a time of day that will pass.
    """
    first = tuple(takewhile(lambda rule: not rule.process and rule.time_of_day is None, rules))
    route = decide(first, study)
    return None if route.process else route


def _route(judgement: Judgement, study: StudyTraits) -> Route:
    rule = judgement.rule
    priority, because = _priority(rule, study)
    return Route(
        rule.name, judgement.because + because, rule.process, rule.reason, rule.model, rule.destinations, priority
    )


# The defined terms of PS3.3 table C.4-11
_REQUESTED = {
    "STAT": Priority.STAT, "HIGH": Priority.HIGH, "ROUTINE": Priority.ROUTINE, "MEDIUM": Priority.ROUTINE,
    "LOW": Priority.LOW,
}  # fmt: skip


def _priority(rule: Rule, study: StudyTraits) -> tuple[Priority, str]:
    if rule.priority != "requested":
        return Priority(rule.priority), ""
    asked = study.requested_priority
    said = f'Requested Procedure Priority is "{asked}"' if asked else "no Requested Procedure Priority in the headers"
    return _REQUESTED.get(asked.upper(), Priority.ROUTINE), f"; {said}"


def _finding(rule: Rule, key: str, study: StudyTraits) -> Finding:
    match key:
        case "roles":
            return _roles(rule.roles or (), study)
        case "time_of_day":
            return _time_of_day(rule.time_of_day or ("", ""), study)
        case "dose":
            given = () if study.dose is None else (study.dose,)
            return _range(key, rule.dose, given, "mmol/kg", "not written in a low-dose series")
        case "age":
            given = () if study.age is None else (study.age,)
            return _range(key, rule.age, given, "years", "not in the headers")
        case "field_strength":
            return _range(key, rule.field_strength, study.field_strength, "T", "not in the headers")
    return _text(key, getattr(rule, key), getattr(study, key))


def _text(key: str, pattern: str, values: tuple[str, ...]) -> Finding:
    for value in values:
        if re.search(pattern, value, re.IGNORECASE):
            return Finding(key, True, f'{key}: "{value}" matches "{pattern}"')
    if not values:
        return Finding(key, False, f"{key}: not in the headers")
    return Finding(key, False, f'{key}: "{pattern}" is not found in {_quoted(values)}')


def _range(
    key: str, limits: tuple[float, float] | None, values: Sequence[float], unit: str, absent: str
) -> Finding:
    low, high = limits or (0.0, 0.0)
    for value in values:
        if low <= value <= high:
            return Finding(key, True, f"{key}: {value:g} {unit} is within [{low:g}, {high:g}]")
    if not values:
        return Finding(key, False, f"{key}: {absent}")
    found = ", ".join(f"{value:g}" for value in values)
    return Finding(key, False, f"{key}: {found} {unit} is not within [{low:g}, {high:g}]")


def _roles(wanted: tuple[Role, ...], study: StudyTraits) -> Finding:
    lacking = [role for role in wanted if role not in study.roles]
    if lacking:
        return Finding("roles", False, f"roles: {', '.join(lacking)} not there")
    return Finding("roles", True, f"roles: {', '.join(wanted)} there")


def _time_of_day(span: tuple[str, str], study: StudyTraits) -> Finding:
    start, end = span
    clock = f"{study.at:%H:%M}"
    # Two digits each: texts are ordered as times are. A span that ends before it begins ends on the next day.
    within = start <= clock < end if start < end else clock >= start or clock < end
    return Finding("time_of_day", within, f"time_of_day: {clock} is {'' if within else 'not '}within {start} to {end}")


def _different(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _quoted(values: Sequence[str]) -> str:
    shown = ", ".join(f'"{value}"' for value in values[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown
