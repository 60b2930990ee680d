"""Identify: which series of a study has which role, from physics first, contrast and time next, names last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from node.header.frames import same_plane
from node.roles.injections import Moment, moments
from node.roles.rules import RoleOverride, RoleRules
from node.roles.series_facts import SeriesFacts
from node.roles.t1_series import T1Series, in_time
from node.roles.weighting import Kind, Weighting, named, weigh
from preprocessing.role import Role

__all__ = ["RoleDecision", "RoleOverride", "RoleRules", "SeriesFacts", "identify"]

# Voxels within a fifth of each other come from the same protocol.
_SAME_SIZE = 0.2


@dataclass(frozen=True)
class RoleDecision:
    """The role of one series, or None, and why, in one sentence; ``nearly``: roles it missed by a defect only."""

    role: Role | None
    because: str
    nearly: tuple[Role, ...] = ()


_NEARLY = {
    None: (), Kind.FLAIR: (Role.FLAIR,), Kind.ADC: (Role.ADC,), Kind.DWI: (Role.DWI, Role.ADC),
    Kind.T1: (Role.T1, Role.LOW_DOSE, Role.FULL_DOSE),
}  # fmt: skip


@dataclass(frozen=True)
class _Candidate:
    """A series that could have a role; ``rank`` orders candidates for one role, larger is better."""

    facts: SeriesFacts
    role: Role
    because: str
    rank: tuple[object, ...]


def identify(series: Sequence[SeriesFacts], rules: RoleRules) -> dict[str, RoleDecision]:
    """Give each role of one study to at most one series, and each series its decision, by Series Instance UID.

    Site overrides win over everything; then each series is judged by how it was acquired (``weighting``), T1 series
    by contrast and time (``injections``), and of several candidates for a role the best is taken.
    """
    decisions: dict[str, RoleDecision] = {}
    taken: dict[Role, SeriesFacts] = {}
    rest: list[SeriesFacts] = []
    for facts in sorted(series, key=lambda one: (one.acquired, one.lead.series_number or 0, one.uid)):
        override = next((rule for rule in rules.override if _holds(rule, facts)), None)
        if override is None:
            rest.append(facts)
        elif override.role == "ignore":
            decisions[facts.uid] = RoleDecision(None, f"ignored by a rule of this site ({_conditions(override)})")
        elif (first := taken.get(Role(override.role))) is not None:
            why = f"a rule of this site says {override.role}, but already gave that role to {first.name}"
            decisions[facts.uid] = RoleDecision(None, why)
        else:
            taken[Role(override.role)] = facts
            decisions[facts.uid] = RoleDecision(
                Role(override.role), f"by a rule of this site ({_conditions(override)})"
            )
    candidates, unfit = _candidates(rest, rules)
    return decisions | unfit | _choose(candidates, taken)


def _candidates(
    series: Sequence[SeriesFacts], rules: RoleRules
) -> tuple[list[_Candidate], dict[str, RoleDecision]]:
    weighed = [(facts, weigh(facts, rules)) for facts in series]
    unfit = {
        facts.uid: RoleDecision(None, shown.because, _NEARLY[shown.nearly])
        for facts, shown in weighed
        if shown.kind is None
    }
    t1 = in_time([T1Series(facts, shown) for facts, shown in weighed if shown.kind is Kind.T1])
    when = moments(t1, rules) if t1 else {}
    contrast = [one.facts.acquired for one in t1 if when[one.facts.uid].role in (Role.LOW_DOSE, Role.FULL_DOSE)]
    injected = min(contrast, default="")
    found: list[_Candidate] = []
    for one in t1:
        moment = when[one.facts.uid]
        because = f"{one.weighting.because}; {moment.because}"
        if moment.role is None:
            unfit[one.facts.uid] = RoleDecision(None, because)
        else:
            rank = _t1_rank(one, moment, t1, when, rules)
            found.append(_Candidate(one.facts, moment.role, because, rank))
    for facts, shown in weighed:
        if shown.kind in (Kind.FLAIR, Kind.DWI, Kind.ADC):
            found.append(_other_candidate(facts, shown, injected, rules))
    return found, unfit


def _t1_rank(
    one: T1Series, moment: Moment, t1: Sequence[T1Series], when: dict[str, Moment], rules: RoleRules
) -> tuple[object, ...]:
    """Tags and times agree, matches the T1 series of other moments, 3D, finest, latest, named so.

    The latest, because a repeat is made when the first one was spoiled.
    """
    others = [other for other in t1 if when[other.facts.uid].role not in (None, moment.role)]
    alike = sum(other.like(one) for other in others)
    same_grid = sum(_same_grid(other.facts, one.facts) for other in others)
    words = {Role.T1: rules.names.t1, Role.LOW_DOSE: rules.names.low_dose}.get(
        moment.role or Role.T1, rules.names.full_dose
    )
    return (
        not moment.conflict, not one.weighting.by_name, alike, same_grid, *_fineness(one.facts), one.facts.acquired,
        named(one.facts, words), -(one.facts.lead.series_number or 0), one.facts.uid,
    )  # fmt: skip


def _other_candidate(facts: SeriesFacts, shown: Weighting, injected: str, rules: RoleRules) -> _Candidate:
    role, words = {
        Kind.FLAIR: (Role.FLAIR, rules.names.flair), Kind.DWI: (Role.DWI, rules.names.dwi),
        Kind.ADC: (Role.ADC, rules.names.adc),
    }[shown.kind or Kind.FLAIR]  # fmt: skip
    late = bool(injected and facts.acquired and facts.acquired > injected)
    because = shown.because + ("; acquired after contrast" if late else "")
    rank = (
        not shown.by_name, not late, shown.family != "trace", *_fineness(facts), len(facts.b_values),
        facts.acquired, named(facts, words), -(facts.lead.series_number or 0), facts.uid,
    )  # fmt: skip
    return _Candidate(facts, role, because, rank)


def _choose(candidates: Sequence[_Candidate], taken: dict[Role, SeriesFacts]) -> dict[str, RoleDecision]:
    decisions: dict[str, RoleDecision] = {}
    best: dict[Role, _Candidate] = {}
    for one in candidates:
        known = best.get(one.role)
        if known is None or one.rank > known.rank:
            best[one.role] = one
    for one in candidates:
        if one.role in taken:
            why = f"{one.because}; but a rule of this site gives {one.role} to {taken[one.role].name}"
            decisions[one.facts.uid] = RoleDecision(None, why)
        elif best[one.role] is one:
            decisions[one.facts.uid] = RoleDecision(one.role, one.because)
        else:
            why = f"also {one.role} ({one.because}), but {best[one.role].facts.name} was preferred because "
            decisions[one.facts.uid] = RoleDecision(None, why + _difference(best[one.role], one))
    return decisions


_T1_REASONS = (
    "its tags and times agree", "it is known by more than its name", "its sequence matches the other T1 series",
    "its slices match the other T1 series", "it is 3D", "its voxels are finer", "it was acquired later",
    "its name says so",
)  # fmt: skip
_OTHER_REASONS = (
    "it is known by more than its name", "it was acquired before contrast", "it holds the single directions",
    "it is 3D", "its voxels are finer", "it has more b-values", "it was acquired later", "its name says so",
)  # fmt: skip


def _difference(better: _Candidate, other: _Candidate) -> str:
    reasons = _T1_REASONS if better.role in (Role.T1, Role.LOW_DOSE, Role.FULL_DOSE) else _OTHER_REASONS
    return next(
        (reason for reason, ours, theirs in zip(reasons, better.rank, other.rank, strict=False) if ours != theirs),
        "its series number is lower",
    )


def _fineness(facts: SeriesFacts) -> tuple[bool, float]:
    row, column, spacing = facts.voxel
    return facts.lead.mr_acquisition_type == "3D", -round(row * column * spacing, 2)


def _same_grid(one: SeriesFacts, other: SeriesFacts) -> bool:
    if not one.planes or not other.planes or not same_plane(one.planes[0], other.planes[0]):
        return False
    pairs = zip(one.voxel, other.voxel, strict=True)
    return all(abs(a - b) <= _SAME_SIZE * max(a, b) for a, b in pairs)


def _holds(rule: RoleOverride, facts: SeriesFacts) -> bool:
    lead = facts.lead
    texts = (
        (rule.series_description, lead.series_description), (rule.protocol_name, lead.protocol_name),
        (rule.manufacturer, lead.manufacturer), (rule.model_name, lead.model_name),
        (rule.station_name, lead.station_name), (rule.ae_title, facts.ae_title),
    )  # fmt: skip
    if any(pattern is not None and not re.search(pattern, text, re.IGNORECASE) for pattern, text in texts):
        return False
    return rule.series_number is None or rule.series_number == lead.series_number


def _conditions(rule: RoleOverride) -> str:
    given = rule.model_dump(exclude_none=True, exclude={"role"})
    return ", ".join(f"{name} = {value}" for name, value in given.items())
