"""What the headers add to the measures: slices, field, dose, and the order and distance of the series in time.

Patients mixed up in the headers, missing slices and missing roles are no matter of this file: they keep a study from
being processed at all (node.complete).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from node.roles.series_facts import SeriesFacts
from preprocessing.quality.measure import Definition, Measure
from preprocessing.role import Role

FIELDS_T = (1.5, 3.0)  # what the paper's patients were scanned with (section 2)
UNKNOWN = float("nan")

HEADER_MEASURES = {
    "slice_thickness": Definition("slice thickness", "mm", 2),
    "slice_gap": Definition("gap between slices", "mm", 2),
    "field": Definition("field strength away from 1.5 and 3 T", "T", 2),
    "dose": Definition("dose injected before the low-dose series", "mmol/kg", 4),
    "low_dose_delay": Definition("low-dose acquired after T1", "min", 1),
    "full_dose_delay": Definition("full-dose acquired after low-dose", "min", 1),
    "session": Definition("from the first series to the last", "min", 0),
    "frames_of_reference": Definition("different Frames of Reference", "", 0),
}


def header_measures(series: Mapping[Role, SeriesFacts]) -> tuple[Measure, ...]:
    """The measures that follow from the headers of the series with a role."""
    fields = [facts.lead.field_t for facts in series.values() if facts.lead.field_t]
    found = [
        Measure("field", max(map(_away, fields), default=UNKNOWN), note="" if fields else "not in the headers"),
        Measure("session", _session(series)),
        Measure("frames_of_reference", float(len({facts.lead.frame_of_reference_uid for facts in series.values()}))),
    ]
    for role, facts in series.items():
        thickness = facts.lead.slice_thickness
        if thickness is not None:
            found += [
                Measure("slice_thickness", thickness, role), Measure("slice_gap", facts.spacing - thickness, role)
            ]
    if Role.LOW_DOSE in series:
        dose = series[Role.LOW_DOSE].lead.dose_mmol_kg
        note = "no amount, strength or weight in the header" if dose is None else ""
        found.append(Measure("dose", UNKNOWN if dose is None else dose, note=note))
    found += _delay("low_dose_delay", series, Role.T1, Role.LOW_DOSE)
    found += _delay("full_dose_delay", series, Role.LOW_DOSE, Role.FULL_DOSE)
    return tuple(found)


def _away(field: float) -> float:
    return min(abs(field - usual) for usual in FIELDS_T)


def _delay(name: str, series: Mapping[Role, SeriesFacts], first: Role, second: Role) -> list[Measure]:
    if first not in series or second not in series:
        return []
    minutes = _minutes(series[first].acquired, series[second].acquired)
    return [Measure(name, minutes, note="" if minutes == minutes else "no acquisition times in the headers")]


def _session(series: Mapping[Role, SeriesFacts]) -> float:
    times = sorted(facts.acquired for facts in series.values() if facts.acquired)
    return _minutes(times[0], times[-1]) if times else UNKNOWN


def _minutes(start: str, end: str) -> float:
    if not start or not end:
        return UNKNOWN
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() / 60
