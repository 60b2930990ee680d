"""Complete: what is still missing of a series or a study, in plain words; nothing missing is an empty tuple.

Pure functions over headers: no database, no clock. When to give up is for the caller to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from node.gaps import gaps, slice_number
from node.header.frames import Stack
from node.roles.identify import RoleDecision
from node.roles.series_facts import SAME_PLACE_MM, SeriesFacts, places
from preprocessing.role import Role


def missing_slices(series: SeriesFacts) -> tuple[str, ...]:
    """What one series lacks: gaps between its slices, fewer images than it declares, images of single b-values.

    Without geometry, the counts alone are judged. An end slice that no count and no other b-value speaks of cannot be
    missed.
    """
    return (
        *_parts(series), *_gaps(series), *_declared(series), *_uneven(series.stacks), *_temporal(series),
        *_without_pixels(series),
    )  # fmt: skip


def missing_roles(
    decisions: Mapping[str, RoleDecision], facts: Iterable[SeriesFacts], required: Sequence[str]
) -> tuple[str, ...]:
    """What a study lacks: required roles without a series, and what the series of required roles lack.

    "adc" is had by an ADC series, or by a DWI series, which has the b-values that an ADC is computed from (that is
    what made it one). A series that only a defect kept from a role is told beside it.

    Raises ValueError for a role that does not exist.
    """
    by_role: dict[Role, SeriesFacts] = {}
    series_of_study = list(facts)
    for series in series_of_study:
        decision = decisions.get(series.uid)
        if decision is not None and decision.role is not None:
            by_role[decision.role] = series
    missing: list[str] = []
    for wanted in required:
        role = Role(wanted)
        found = by_role.get(role)
        if role is Role.ADC and (found is None or missing_slices(found)) and Role.DWI in by_role:
            found = by_role[Role.DWI]
        if found is None:
            nearly = [f"{one.name}: {decisions[one.uid].because}" for one in series_of_study
                      if one.uid in decisions and role in decisions[one.uid].nearly]  # fmt: skip
            missing.append("; ".join([_NOT_FOUND[role], *nearly]))
            continue
        missing += [f"{role} ({found.name}): {lack}" for lack in missing_slices(found)]
    return tuple(missing)


def not_arrived(
    decisions: Mapping[str, RoleDecision], facts: Iterable[SeriesFacts], roles: Collection[Role],
    performed: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    """What the modality has made of the series of these roles and has not arrived; ``performed`` holds SOP Instance
    UIDs by Series Instance UID (node.performed). For "adc" the DWI series counts too.
    """
    wanted = {*roles, Role.DWI} if Role.ADC in roles else {*roles}
    lacks: list[str] = []
    for series in facts:
        role = decisions[series.uid].role if series.uid in decisions else None
        made = set(performed.get(series.uid, ()))
        absent = made - {header.sop_instance_uid for header in series.headers}
        if role in wanted and absent:
            lacks.append(
                f"{role} ({series.name}): {len(absent)} of {len(made)} instances that the modality says it has made "
                "have not arrived (MPPS)"
            )
    return tuple(lacks)


_NOT_FOUND = {
    Role.T1: "t1: no T1-weighted series before contrast",
    Role.FLAIR: "flair: no T2-FLAIR series",
    Role.ADC: "adc: neither an ADC series nor a DWI series with b = 0 and a high b-value",
    Role.LOW_DOSE: "low_dose: no T1-weighted series after the low dose",
    Role.DWI: "dwi: no DWI series with b = 0 and a high b-value",
    Role.FULL_DOSE: "full_dose: no T1-weighted series after the full dose",
}


def hold_reasons(facts: Iterable[SeriesFacts]) -> tuple[str, ...]:
    """What makes a study impossible to process, however long one waits; instances of Quarterdose itself do not count.

    Names are never told: a reason travels into logs and mails.
    """
    series = [one for one in facts if not one.lead.ours]
    headers = [header for one in series for header in one.headers]
    reasons = [*different_patient_ids(series)]
    studies = {header.study_instance_uid for header in headers}
    if len(studies) > 1:
        reasons.append(f"series of {len(studies)} different studies: {', '.join(sorted(studies))}")
    modalities = {header.modality for header in headers if header.modality not in ("PR", "KO", "SR", "SEG", "RWV")}
    if headers and modalities and "MR" not in modalities:
        reasons.append(f"not an MR study: modality {', '.join(sorted(m or '(empty)' for m in modalities))}")
    for one in series:
        cut = sum(header.truncated for header in one.headers)
        if cut:
            reasons.append(f"{one.name}: the pixel data of {cut} of {len(one.headers)} instances are truncated")
    return tuple(reasons)


def patient_ids(facts: Iterable[SeriesFacts]) -> set[str]:
    """The Patient IDs of what the study holds; instances of Quarterdose itself do not count."""
    return {header.patient_id for one in facts if not one.lead.ours for header in one.headers}


def different_patient_ids(facts: Iterable[SeriesFacts]) -> tuple[str, ...]:
    """Two patients in one study, or one of whom a part has been merged into another."""
    patients = patient_ids(facts)
    shown = sorted(repr(patient) if patient else "(empty)" for patient in patients)
    return (f"{len(patients)} different Patient IDs in one study: {', '.join(shown)}",) if len(patients) > 1 else ()


def different_names(facts: Iterable[SeriesFacts]) -> tuple[str, ...]:
    """Series whose patient has another name than that of most instances: a correction of which a part has arrived, or
    another person under the same Patient ID. A study with two names is not made into one result.
    """
    series = [one for one in facts if not one.lead.ours]
    names = Counter(header.patient_name_digest for one in series for header in one.headers)
    del names[""]
    if len(names) < 2:
        return ()
    [(usual, _)] = names.most_common(1)
    others = [one.name for one in series if {header.patient_name_digest for header in one.headers} - {usual, ""}]
    remedy = "send them with the name that is right, or force the study"
    return (f"{len(names)} different patient names in one study, that of {', '.join(others)} is the rarer; {remedy}",)


def unusable(decisions: Mapping[str, RoleDecision], facts: Iterable[SeriesFacts]) -> tuple[str, ...]:
    """Series that a role needs and that no further instance can mend: none of theirs has pixels, or none a geometry.

    A defective series does not count where another one has its role.
    """
    had = {decision.role for decision in decisions.values()}
    reasons: list[str] = []
    for one in facts:
        decision = decisions[one.uid]
        if decision.role is None and not set(decision.nearly) - had:
            continue
        if not any(header.has_pixel_data for header in one.headers):
            reasons.append(f"{one.name}: no instance has Pixel Data; send it again from the scanner")
        elif not any(header.orientations for header in one.headers):
            what = "its geometry is missing: no Image Position and Orientation (Patient)"
            reasons.append(f"{one.name}: {what}; send it again from the scanner")
    return tuple(reasons)


def _parts(series: SeriesFacts) -> list[str]:
    """Enhanced instances that describe fewer frames than they hold, and concatenations with parts to come."""
    lacks = [
        f"an instance holds {header.frames} frames but describes {described}"
        for header in series.headers
        if (described := sum(stack.count for stack in header.stacks)) != header.frames
    ]
    totals = {h.concatenation_uid: h.concatenation_total for h in series.headers if h.concatenation_uid}
    for uid, total in totals.items():
        parts = sum(header.concatenation_uid == uid for header in series.headers)
        if total is not None and parts < total:
            lacks.append(f"{parts} of {total} parts of a concatenation")
    return lacks


def _gaps(series: SeriesFacts) -> list[str]:
    found = places(series.stacks)
    lacks: list[str] = []
    for gap in gaps(found, series.lead.slice_spacing):
        what = "slice" if gap.missing == 1 else f"{gap.missing} slices"
        numbers = f"slice {gap.first}" if gap.missing == 1 else f"slices {gap.first} to {gap.first + gap.missing - 1}"
        lacks.append(
            f"{what} missing between {gap.before:.1f} mm and {gap.after:.1f} mm ({numbers} of about {gap.total})"
        )
    return lacks


def _declared(series: SeriesFacts) -> list[str]:
    lacks: list[str] = []
    # Derived series keep the count of the acquisition they were computed from.
    derived = all(header.image_type[:1] == ("DERIVED",) for header in series.headers)
    acquired = max((header.declared_instances or 0 for header in series.headers), default=0)
    whole = max((header.declared_series_instances or 0 for header in series.headers), default=0)
    declared = max(whole, 0 if derived else acquired)
    # An enhanced instance counts its frames as images.
    held = max(len(series.headers), sum(header.frames for header in series.headers) if not whole else 0)
    if held < declared:
        lacks.append(f"{held} of {declared} instances that the series itself declares")
    slices = max((header.declared_slices or 0 for header in series.headers), default=0)
    found = len(places(series.stacks)) or sum(header.frames for header in series.headers)
    if found < slices:
        lacks.append(f"{found} of {slices} slices that the series itself declares")
    return lacks


def _uneven(stacks: Sequence[Stack]) -> list[str]:
    """Places where a b-value (or one kind of image) has fewer images than it has elsewhere, or none."""
    everywhere = places(stacks)
    if not everywhere:
        return _uneven_counts(stacks)
    groups: dict[tuple[float | None, tuple[str, ...], float | None], list[Stack]] = {}
    for stack in stacks:
        groups.setdefault((stack.b_value, stack.image_type[2:4], stack.echo_ms), []).append(stack)
    lacks: list[str] = []
    for (b, _, _), members in groups.items():
        counts = _images_at(everywhere, members)
        most = max(counts, default=0)
        label = "" if b is None else f"b = {b:g}: "
        lacks += [
            f"{label}{count} of {most} images at {place:.1f} mm (slice {slice_number(everywhere, place)} of "
            f"{len(everywhere)})"
            for place, count in zip(everywhere, counts, strict=True)
            if count < most
        ]
    return lacks


def _images_at(everywhere: Sequence[float], stacks: Iterable[Stack]) -> list[int]:
    counts = [0] * len(everywhere)
    index = 0
    for position in sorted(position for stack in stacks for position in stack.positions):
        while index + 1 < len(everywhere) and position - everywhere[index] > SAME_PLACE_MM:
            index += 1
        counts[index] += 1
    return counts


def _uneven_counts(stacks: Sequence[Stack]) -> list[str]:
    """Without geometry: every b-value has a multiple of the images that the rarest has."""
    counts: dict[float, int] = {}
    for stack in stacks:
        if stack.b_value is not None:
            counts[stack.b_value] = counts.get(stack.b_value, 0) + stack.count
    if len(counts) < 2:
        return []
    lowest = min(counts)
    return [
        f"b = {b:g}: {count} images do not make whole volumes of {counts[lowest]} slices as b = {lowest:g} has"
        for b, count in sorted(counts.items())
        if count % counts[lowest]
    ]


def _temporal(series: SeriesFacts) -> list[str]:
    """Whole volumes that are missing: each temporal position of an acquired series that tells them apart."""
    acquired = [header for header in series.headers if header.image_type[:1] != ("DERIVED",)]
    declared = max((header.declared_temporal_positions or 0 for header in acquired), default=0)
    seen = {stack.temporal for header in acquired for stack in header.stacks if stack.temporal is not None}
    if declared < 2 or not seen or max(seen) > declared or len(seen) >= declared:
        return []
    absent = sorted(set(range(1, declared + 1)) - seen)
    names = ", ".join(map(str, absent[:8])) + (" …" if len(absent) > 8 else "")
    return [f"{len(seen)} of {declared} temporal positions that the series itself declares (missing: {names})"]


def _without_pixels(series: SeriesFacts) -> list[str]:
    empty = sum(not header.has_pixel_data for header in series.headers)
    cut = sum(header.truncated for header in series.headers)
    lacks = [f"{empty} of {len(series.headers)} instances have no pixel data"] if empty else []
    return lacks + ([f"{cut} of {len(series.headers)} instances have truncated pixel data"] if cut else [])
