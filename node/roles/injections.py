"""Which of the T1 series was acquired before contrast, after the first injection, after the second (paper, section 2).

What the contrast tags say comes first, then the order in time. Where both speak and disagree, the tags are followed
and the sentence says so: it is for quality control, and for a person, to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.roles.rules import RoleRules
from node.roles.series_facts import SeriesFacts
from node.roles.weighting import Weighting
from preprocessing.volume import Role

# Three images of one kind, before, after the first and after the second injection: time alone can tell them apart.
_PROTOCOL = 3


@dataclass(frozen=True)
class T1Series:
    """A T1 series and what it shows."""

    facts: SeriesFacts
    weighting: Weighting

    @property
    def signature(self) -> tuple[str, str]:
        """Sequences that can be compared across injections: the family, and 2D or 3D."""
        return self.weighting.family, self.facts.lead.mr_acquisition_type


@dataclass(frozen=True)
class Moment:
    """When a T1 series was acquired: the role it could have, and why; ``conflict`` when tags and time disagree."""

    role: Role | None
    because: str
    conflict: bool = False


def in_time(series: Sequence[T1Series]) -> list[T1Series]:
    """In the order of acquisition; by series number where any of them has no time."""
    timed = all(one.facts.acquired for one in series)
    return sorted(series, key=lambda one: (
        one.facts.acquired if timed else "", one.facts.lead.series_number or 0, one.facts.uid))  # fmt: skip


def moments(series: Sequence[T1Series], rules: RoleRules) -> dict[str, Moment]:
    """The moment of each T1 series, by Series Instance UID."""
    ordered = in_time(series)
    written = [_writes_contrast(one.facts, rules) for one in ordered]
    if not any(written):
        return _by_time(ordered, "no contrast tags")
    doses = {one.facts.lead.dose_mmol_kg for one in ordered}
    if len(ordered) >= _PROTOCOL and all(written) and len(doses) == 1 and _one_start(ordered):
        return _by_time(ordered, "every T1 series has the same contrast tags")
    said = {one.facts.uid: _by_tags(one.facts, rules) for one in ordered}
    timed = all(one.facts.acquired for one in ordered)
    forgotten = _forgotten(ordered, written) if timed else []
    open_ones = [one for one in ordered if said[one.facts.uid] is None or one in forgotten]
    settled = {uid: moment for uid, moment in said.items()
               if moment is not None and uid not in {one.facts.uid for one in forgotten}}  # fmt: skip
    settled |= _without_dose(open_ones, ordered, settled)
    return _compare_with_time(ordered, settled) if timed else settled


def _forgotten(ordered: Sequence[T1Series], written: Sequence[bool]) -> list[T1Series]:
    """Series whose contrast tags are empty though contrast was given before them: no agent leaves within an hour.

    Only where another series was acquired before the first injection; else the empty one is all there is for T1.
    """
    first = written.index(True)
    if first == 0:
        return []
    return [one for one, told in zip(ordered[first:], written[first:], strict=True) if not told and _silent(one.facts)]


def _silent(facts: SeriesFacts) -> bool:
    lead = facts.lead
    given = (lead.contrast_administered, lead.contrast_volume_ml, lead.contrast_dose_ml, lead.dose_mmol_kg)
    return not lead.contrast_agent and all(value is None for value in given)


def _writes_contrast(facts: SeriesFacts, rules: RoleRules) -> bool:
    """Whether the series says that contrast was given."""
    lead = facts.lead
    if lead.contrast_administered is not None:
        return lead.contrast_administered
    if lead.dose_mmol_kg is not None and lead.dose_mmol_kg <= rules.no_dose_max:
        return False
    if lead.contrast_volume_ml == 0 and not lead.contrast_dose_ml:
        return False
    if lead.contrast_agent:
        return lead.contrast_agent.casefold() not in rules.no_agent_words
    return bool(lead.contrast_volume_ml or lead.contrast_dose_ml)


def _by_tags(facts: SeriesFacts, rules: RoleRules) -> Moment | None:
    """The moment as the contrast tags alone tell it; None when there is an agent but no telling dose."""
    if not _writes_contrast(facts, rules):
        return Moment(Role.T1, "before contrast: no agent in the header")
    dose = facts.lead.dose_mmol_kg
    agent = facts.lead.contrast_agent or "contrast"
    if dose is not None and dose <= rules.low_dose_max:
        return Moment(Role.LOW_DOSE, f"after {dose:.3g} mmol/kg of {agent}")
    if dose is not None and dose >= rules.full_dose_min:
        return Moment(Role.FULL_DOSE, f"after {dose:.3g} mmol/kg of {agent}")
    return None


def _one_start(series: Sequence[T1Series]) -> bool:
    return len({one.facts.lead.contrast_start for one in series}) == 1


def _by_time(ordered: Sequence[T1Series], why: str) -> dict[str, Moment]:
    """Order alone: first, second and last of the sequence that was run most often."""
    groups: dict[tuple[str, str], list[T1Series]] = {}
    for one in ordered:
        groups.setdefault(one.signature, []).append(one)
    # Of equally frequent sequences, the finer one: a thick spin echo often stands beside a 3D series.
    chosen = max(groups.values(), key=lambda group: (len(group), -_volume(group[0].facts)))
    if len(chosen) == 1:
        chosen = list(ordered)
    moments = {one.facts.uid: Moment(None, f"another T1 sequence than the {len(chosen)} that were compared in time")
               for one in ordered}  # fmt: skip
    for place, one in enumerate(chosen):
        moments[one.facts.uid] = _place(place, len(chosen), why)
    return moments


def _place(place: int, count: int, why: str) -> Moment:
    of = f"of {count} T1 series in time ({why})"
    if place == 0:
        return Moment(Role.T1, f"first {of}" if count > 1 else f"the only T1 series ({why})")
    if place == 1:
        return Moment(Role.LOW_DOSE, f"second {of}, so after the first injection")
    if place == count - 1:
        return Moment(Role.FULL_DOSE, f"last {of}, so after the second injection")
    return Moment(None, f"number {place + 1} {of}: between the second and the last")


def _without_dose(
    open_ones: Sequence[T1Series], ordered: Sequence[T1Series], settled: dict[str, Moment]
) -> dict[str, Moment]:
    """The series with an agent but without a dose: by the dosed ones around them, by injection times, by order."""
    if not open_ones:
        return {}
    place = {one.facts.uid: index for index, one in enumerate(ordered)}
    low = [place[uid] for uid, moment in settled.items() if moment.role is Role.LOW_DOSE]
    full = [place[uid] for uid, moment in settled.items() if moment.role is Role.FULL_DOSE]
    starts = sorted({one.facts.lead.contrast_start for one in open_ones if one.facts.lead.contrast_start})
    dosed = {one.facts.lead.contrast_start: settled[one.facts.uid].role for one in ordered
             if one.facts.uid in settled and settled[one.facts.uid].role is not Role.T1}  # fmt: skip
    found: dict[str, Moment] = {}
    for index, one in enumerate(open_ones):
        here, agent = place[one.facts.uid], one.facts.lead.contrast_agent or "no agent"
        first = f"after the first injection: {agent}, no dose in the header"
        second = f"after the second injection: {agent}, no dose in the header"
        start = one.facts.lead.contrast_start
        if start and start in dosed:
            late, by = dosed[start] is Role.FULL_DOSE, f"by its injection time {start}"
        elif dosed:
            late = here > min(full) if full else here > max(low)
            by = "by its place in time among the series with a dose"
        elif len(starts) > 1 and start:
            late, by = start != starts[0], f"by its injection time {start}"
        else:
            earlier = [other for other in open_ones[:index] if other.signature == one.signature]
            late, by = bool(earlier), "by the order in time"
        role = Role.FULL_DOSE if late else Role.LOW_DOSE
        found[one.facts.uid] = Moment(role, f"{second if late else first}, {by}")
    return found


_ORDER = {Role.T1: 0, Role.LOW_DOSE: 1, Role.FULL_DOSE: 2}


def _compare_with_time(ordered: Sequence[T1Series], found: dict[str, Moment]) -> dict[str, Moment]:
    """Say where a series with less contrast was acquired after one with more."""
    compared: dict[str, Moment] = {}
    for index, one in enumerate(ordered):
        moment = found[one.facts.uid]
        before = [other for other in ordered[:index] if _more(found[other.facts.uid], moment)]
        if before:
            names = ", ".join(other.facts.name for other in before)
            conflict = f"; but it was acquired after {names} with more contrast: tags and times conflict"
            moment = Moment(moment.role, moment.because + conflict, True)
        compared[one.facts.uid] = moment
    return compared


def _more(one: Moment, other: Moment) -> bool:
    return one.role is not None and other.role is not None and _ORDER[one.role] > _ORDER[other.role]


def _volume(facts: SeriesFacts) -> float:
    row, column, spacing = facts.voxel
    return row * column * spacing
