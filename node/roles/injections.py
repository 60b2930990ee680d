"""Which of the T1 series was acquired before contrast, after the first injection, after the second (paper, section 2).

What the contrast tags say comes first, then the order in time. Where both speak and disagree, the tags are followed
and the sentence says so: it is for quality control, and for a person, to judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from node.roles.rules import RoleRules
from node.roles.series_facts import SeriesFacts
from node.roles.t1_series import T1Series, acquisitions, in_time, minutes, secondary, timed, together, voxel_volume
from preprocessing.role import Role

# Three images of one kind, before, after the first and after the second injection: time alone can tell them apart.
_PROTOCOL = 3
# A repeat after motion follows at once; an injection, and the series between, take longer.
_REPEAT_MINUTES = 10.0


@dataclass(frozen=True)
class Moment:
    """When a T1 series was acquired: the role it could have, and why; ``conflict`` when tags and time disagree."""

    role: Role | None
    because: str
    conflict: bool = False


def moments(series: Sequence[T1Series], rules: RoleRules) -> dict[str, Moment]:
    """The moment of each T1 series, by Series Instance UID."""
    ordered = in_time(series)
    reformats = _reformats(ordered)
    return reformats | _judged([one for one in ordered if one.facts.uid not in reformats], rules)


def _reformats(ordered: Sequence[T1Series]) -> dict[str, Moment]:
    """Series calculated from another one that is here too: they are no acquisition of their own."""
    found: dict[str, Moment] = {}
    for one in ordered:
        if secondary(one):
            source = next((other for other in ordered if not secondary(other) and other.like(one)
                           and one.facts.acquired in ("", other.facts.acquired)), None)  # fmt: skip
            if source is not None:
                why = f"calculated from {source.facts.name} (Image Type {'/'.join(one.facts.lead.image_type[:2])})"
                found[one.facts.uid] = Moment(None, why)
    return found


def _judged(ordered: Sequence[T1Series], rules: RoleRules) -> dict[str, Moment]:
    written = [_writes_contrast(one.facts, rules) for one in ordered]
    if not any(written):
        return _by_time(ordered, "no contrast tags")
    doses = {one.facts.lead.dose_mmol_kg for one in ordered}
    if len(ordered) >= _PROTOCOL and all(written) and len(doses) == 1 and _one_start(ordered):
        return _by_time(ordered, "every T1 series has the same contrast tags")
    said = {one.facts.uid: _by_tags(one.facts, rules) for one in ordered}
    in_order = timed(ordered)
    settled = {uid: moment for uid, moment in said.items() if moment is not None}
    if in_order:
        for one in _forgotten(ordered, written):
            del settled[one.facts.uid]
        settled |= _unannounced(ordered, settled)
    open_ones = [one for one in ordered if one.facts.uid not in settled]
    settled |= _without_dose(open_ones, ordered, settled)
    return _compare_with_time(ordered, settled) if in_order else settled


def _forgotten(ordered: Sequence[T1Series], written: Sequence[bool]) -> list[T1Series]:
    """Series whose contrast tags are empty though contrast was given before them: no agent leaves within an hour.

    Only where another series was acquired before the first injection; else the empty one is all there is for T1.
    """
    first = written.index(True)
    if first == 0:
        return []
    return [one for one, told in zip(ordered[first:], written[first:], strict=True) if not told and _silent(one.facts)]


def _unannounced(ordered: Sequence[T1Series], settled: dict[str, Moment]) -> dict[str, Moment]:
    """What an untagged series long after the first one is, in a study without a low dose: that, with forgotten tags?

    A repeat after motion follows at once. Where a later header tells of more than one injection, it is the low dose;
    where none does, nobody can tell, and neither it nor a later series without a dose may get a role.
    """
    bare = [one for one in ordered if (said := settled.get(one.facts.uid)) is not None and said.role is Role.T1]
    if not bare or any(moment.role is Role.LOW_DOSE for moment in settled.values()):
        return {}
    late = [one for one in bare[1:] if one.like(bare[0]) and minutes(bare[0], one) > _REPEAT_MINUTES]
    after = [one for one in ordered if one not in bare]
    if not late or not after:
        return {}
    teller = next((one for one in after if (one.facts.lead.contrast_injections or 1) > 1), None)
    if teller is not None:
        why = f"after the first injection: its own header names no agent, but {teller.facts.name} tells of two"
        return {one.facts.uid: Moment(Role.LOW_DOSE, why) for one in late}
    gap = minutes(bare[0], late[0])
    why = (f"cannot be told: acquired {gap:.0f} minutes after {bare[0].facts.name} without contrast tags, "
           "so a repeat before contrast, or the low dose with its tags forgotten")  # fmt: skip
    open_ones = [one for one in after if one.facts.uid not in settled]
    unclear = f"cannot be told: no dose in the header, and {late[0].facts.name} may be the low dose or before contrast"
    return {one.facts.uid: Moment(None, why) for one in late} | {
        one.facts.uid: Moment(None, unclear) for one in open_ones}  # fmt: skip


def _silent(facts: SeriesFacts) -> bool:
    lead = facts.lead
    given = (lead.contrast_administered, lead.contrast_volume_ml, lead.contrast_dose_ml, lead.dose_mmol_kg)
    return not lead.contrast_agent and not lead.contrast_start and all(value is None for value in given)


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
    return bool(lead.contrast_volume_ml or lead.contrast_dose_ml or lead.contrast_start)


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
    """Order alone: first, second and last acquisition of the protocol that was run most often."""
    if not timed(ordered):
        why += "; by series number, for a time is missing"
    protocols: list[list[T1Series]] = []
    for one in ordered:
        alike = next((protocol for protocol in protocols if one.like(protocol[0])), None)
        if alike is None:
            protocols.append([one])
        else:
            alike.append(one)
    # Of equally frequent protocols, the finer one: a thick spin echo often stands beside a 3D series.
    chosen = max(protocols, key=lambda protocol: (len(acquisitions(protocol)), -voxel_volume(protocol[0])))
    acquired = acquisitions(chosen)
    if len(acquired) == 1 and len(protocols) > 1:
        return _all_different(ordered, why)
    other = f"another T1 protocol than the {len(acquired)} series that were compared in time"
    moments = {one.facts.uid: Moment(None, other) for one in ordered}
    for place, acquisition in enumerate(acquired):
        moments |= {one.facts.uid: _place(place, len(acquired), why) for one in acquisition}
    return moments


def _all_different(ordered: Sequence[T1Series], why: str) -> dict[str, Moment]:
    unclear = f"cannot be told: no two T1 series have the same protocol to compare ({why})"
    found = {one.facts.uid: Moment(None, unclear) for one in ordered}
    found[ordered[0].facts.uid] = Moment(Role.T1, f"first of {len(ordered)} different T1 series ({why})")
    return found


def _place(place: int, count: int, why: str) -> Moment:
    of = f"of {count} T1 series in order ({why})"
    if place == 0:
        return Moment(Role.T1, f"first {of}" if count > 1 else f"the only T1 series ({why})")
    if count > _PROTOCOL:
        return Moment(None, f"cannot be told: number {place + 1} {of}, so at least one of them is a repeat")
    if place == 1:
        return Moment(Role.LOW_DOSE, f"second {of}, so after the first injection")
    return Moment(Role.FULL_DOSE, f"third {of}, so after the second injection")


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
        here, agent = place[one.facts.uid], one.facts.lead.contrast_agent
        start = one.facts.lead.contrast_start
        if start and start in dosed:
            late, by = dosed[start] is Role.FULL_DOSE, f"by its injection time {_clock(start)}"
        elif dosed:
            late = here > min(full) if full else here > max(low)
            by = "by its place in time beside the series with a dose"
        elif len(starts) > 1 and start:
            late, by = start != starts[0], f"by its injection time {_clock(start)}"
        else:
            earlier = [other for other in open_ones[:index] if other.like(one) and not together(other, one)]
            late, by = bool(earlier), "by the order in time"
        role = Role.FULL_DOSE if late else Role.LOW_DOSE
        header = f"{agent}, no dose in the header" if agent else "neither agent nor dose in the header"
        found[one.facts.uid] = Moment(role, f"after the {'second' if late else 'first'} injection, {by} ({header})")
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


def _clock(time: str) -> str:
    """TM for people: 085303.684654 is 08:53:03."""
    return ":".join(time[place : place + 2] for place in (0, 2, 4)) if re.match(r"\d{6}", time) else time
