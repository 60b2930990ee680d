"""Which rule decides, and what is said of those that do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO

from node.header.instance import InstanceHeader, scan
from node.roles.series_facts import SeriesFacts
from node.routing.decide import WITHOUT_RULES, StudyTraits, decide, judge, refuse
from node.routing.rules import Priority, Rule
from preprocessing.role import Role
from tests.mr_slices import mr_slice

NIGHT = datetime(2026, 1, 2, 23, 30)
STUDY = StudyTraits(
    NIGHT, frozenset({Role.T1, Role.LOW_DOSE, Role.DWI, Role.ADC}), ae_title=("MR1", "MR2"), modality=("MR",),
    study_description=("MR Brain w/wo",), series_description=("t1_mprage", "ep2d_diff"), body_part=("HEAD",),
    manufacturer=("SIEMENS",), model_name=("Prisma",), field_strength=(3.0,), dose=0.025, age=17,
    requested_priority="Stat",
)  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "holds", "said"),
    [
        ({"ae_title": "^mr2$"}, True, 'ae_title: "MR2" matches "^mr2$"'),
        ({"ae_title": "^ER"}, False, 'ae_title: "^ER" is not found in "MR1", "MR2"'),
        ({"modality": "^MR$"}, True, "modality"),
        ({"study_description": "brain"}, True, '"MR Brain w/wo" matches "brain"'),
        ({"study_description": "^(?!.*brain)"}, False, "is not found in"),
        ({"series_description": "diff"}, True, '"ep2d_diff"'),
        ({"protocol_name": "x"}, False, "protocol_name: not in the headers"),
        ({"station_name": ".*"}, False, "station_name: not in the headers"),
        ({"body_part": "head|brain"}, True, "HEAD"),
        ({"manufacturer": "siemens"}, True, "SIEMENS"),
        ({"model_name": "Vida"}, False, "Prisma"),
        ({"roles": ("t1", "adc")}, True, "roles: t1, adc there"),
        ({"roles": ("t1", "flair", "full_dose")}, False, "roles: flair, full_dose not there"),
        ({"dose": (0.025, 0.025)}, True, "0.025 mmol/kg is within"),
        ({"dose": (0.03, 0.1)}, False, "dose: 0.025 mmol/kg is not within [0.03, 0.1]"),
        ({"age": (0, 17)}, True, "17 years is within [0, 17]"),
        ({"age": (18, 150)}, False, "17 years is not within"),
        ({"field_strength": (2.5, 3.5)}, True, "3 T is within"),
        ({"field_strength": (1.0, 2.0)}, False, "3 T is not within [1, 2]"),
        ({"time_of_day": ("19:00", "07:00")}, True, "23:30 is within 19:00 to 07:00"),
        ({"time_of_day": ("07:00", "19:00")}, False, "23:30 is not within 07:00 to 19:00"),
    ],
)
def test_each_condition_says_what_it_found(condition, holds, said):
    (finding,) = judge(Rule.model_validate({"name": "x", **condition}), STUDY).findings
    assert finding.holds is holds
    assert said in finding.because
    assert finding.condition in condition


def test_what_the_headers_do_not_tell_fits_no_range():
    silent = StudyTraits(NIGHT, frozenset())
    for condition in ({"dose": (0, 9)}, {"age": (0, 150)}, {"field_strength": (0, 99)}):
        assert not judge(Rule.model_validate({"name": "x", **condition}), silent).fits


@given(st.times(), st.times(), st.times())
def test_a_span_and_its_complement_share_every_minute_of_the_day(start: time, end: time, at: time) -> None:
    first, last = f"{start:%H:%M}", f"{end:%H:%M}"
    if first == last:
        return
    study = replace(STUDY, at=datetime.combine(NIGHT.date(), at))
    one, other = (judge(Rule(name="x", time_of_day=span), study).fits for span in ((first, last), (last, first)))
    assert one is not other


CHILD = Rule(name="children", age=(0, 17), process=False, reason="no children")
EMERGENCY = Rule(name="emergency", ae_title="^MR2$", study_description="brain", priority="stat", destinations=("er",))
REST = Rule(name="rest", model="/weights")


def test_the_first_rule_that_fits_decides():
    route = decide((EMERGENCY, CHILD, REST), STUDY)
    assert (route.rule, route.process, route.priority) == ("emergency", True, Priority.STAT)
    assert route.destinations == ("er",)
    assert 'ae_title: "MR2" matches' in route.because
    assert 'study_description: "MR Brain w/wo" matches' in route.because
    assert route.goes_to("er")
    assert not route.goes_to("pacs")
    turned_away = decide((CHILD, EMERGENCY, REST), STUDY)
    assert (turned_away.rule, turned_away.process, turned_away.reason) == ("children", False, "no children")
    assert turned_away.follows == "not processed: no children"
    adult = replace(STUDY, age=40, ae_title=("MR1",))
    assert decide((CHILD, EMERGENCY, REST), adult).rule == "rest"
    follows = "processed, with the weights in /weights, for every destination, priority routine"
    assert decide((REST,), adult).follows == follows


def test_every_condition_must_hold():
    assert decide((EMERGENCY, REST), replace(STUDY, study_description=("Knee",))).rule == "rest"


def test_without_rules_everything_is_processed_for_everybody():
    route = decide((), STUDY)
    assert route == WITHOUT_RULES
    assert route.process
    assert route.goes_to("anywhere")
    assert route.priority is Priority.ROUTINE


@pytest.mark.parametrize(
    ("asked", "priority"),
    [("STAT", "stat"), ("High", "high"), ("ROUTINE", "routine"), ("MEDIUM", "routine"), ("LOW", "low"), ("", "routine"),
     ("AT ONCE", "routine")],
)  # fmt: skip
def test_the_priority_of_the_request(asked, priority):
    route = decide((Rule(name="as asked", priority="requested"),), replace(STUDY, requested_priority=asked))
    assert route.priority == priority
    assert asked in route.because
    assert decide((Rule(name="x"),), replace(STUDY, requested_priority=asked)).priority is Priority.ROUTINE


def header(series: str, **elements: object) -> InstanceHeader:
    target = DicomBytesIO()
    mr_slice(series, 1, **elements).save_as(target, enforce_file_format=True)
    target.seek(0)
    return scan(target)


def test_the_traits_of_received_series():
    injected = {"ContrastBolusAgent": "x", "MagneticFieldStrength": 3, "PatientAge": "040Y"}
    series = [
        SeriesFacts.of([header("t1", StudyDescription="Brain", BodyPartExamined="HEAD")], "MR1"),
        SeriesFacts.of([header("low", **injected)], "MR2"),
    ]
    roles = {series[0].uid: Role.T1, series[1].uid: Role.LOW_DOSE}
    traits = StudyTraits.of(series, roles, NIGHT)
    assert traits.roles == {Role.T1, Role.LOW_DOSE}
    assert (traits.ae_title, traits.series_description) == (("MR1", "MR2"), ("t1", "low"))
    assert (traits.study_description, traits.body_part, traits.manufacturer) == (("Brain",), ("HEAD",), ("SIEMENS",))
    assert (traits.age, traits.field_strength, traits.modality) == (40, (3.0,), ("MR",))
    assert traits.dose is None
    assert StudyTraits.of(series, {**roles, series[1].uid: Role.DWI}, NIGHT).roles == {Role.T1, Role.DWI, Role.ADC}


def test_what_quarterdose_made_is_no_trait():
    (ours,) = [replace(header("virtual"), ours=True)]
    assert StudyTraits.of([SeriesFacts.of([ours], "US")], {}, NIGHT) == StudyTraits(NIGHT, frozenset())


def test_a_study_is_turned_away_early_only_by_what_nothing_can_change():
    at_night = Rule(name="night", time_of_day=("19:00", "07:00"), process=False, reason="closed")
    nothing = Rule(name="rest", process=False, reason="nobody asked")
    adult = replace(STUDY, age=40)
    assert refuse((CHILD, REST), STUDY).rule == "children"
    assert refuse((CHILD, REST), adult) is None
    assert refuse((CHILD, nothing), adult).rule == "rest"
    assert refuse((EMERGENCY, CHILD, nothing), replace(STUDY, ae_title=())) is None, "an emergency series may yet come"
    assert refuse((at_night, CHILD, REST), STUDY) is None, "by the time it is complete it may be day"
    assert refuse((), STUDY) is None
