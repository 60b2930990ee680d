"""Limits, verdicts and what headers add, at the room's door."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from node.header.instance import InstanceHeader
from node.quality.headers import header_measures
from node.quality.rules import ALL_MEASURES, QualityRules
from node.quality.verdict import Verdict, assess
from node.roles.series_facts import SeriesFacts
from node.settings import Settings
from preprocessing.quality.measure import Measure
from preprocessing.volume import Role

NONE: dict[str, dict[str, object]] = {name: {} for name in ALL_MEASURES}


def rules(**limits: dict[str, object]) -> QualityRules:
    return QualityRules.model_validate({"limits": NONE | {key.replace("__", "."): row for key, row in limits.items()}})


BOTH = {"reject_below": 1.0, "warn_below": 2.0, "warn_above": 8.0, "reject_above": 9.0}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.9, Verdict.REJECT), (1.0, Verdict.WARN), (1.9, Verdict.WARN), (2.0, Verdict.ACCEPT), (8.0, Verdict.ACCEPT),
     (8.1, Verdict.WARN), (9.0, Verdict.WARN), (9.1, Verdict.REJECT), (float("nan"), Verdict.ACCEPT)],
)  # fmt: skip
def test_a_measure_is_held_against_its_four_limits(value: float, verdict: Verdict):
    assessment = assess([Measure("gain", value)], rules(gain=BOTH))
    assert assessment.verdict is verdict
    assert bool(assessment.findings[0].because) == (verdict is not Verdict.ACCEPT)


@pytest.mark.parametrize(("unknown", "verdict"), [("warn", Verdict.WARN), ("reject", Verdict.REJECT)])
def test_what_cannot_be_known_is_judged_as_the_limits_say_and_says_why(unknown: str, verdict: Verdict):
    assessment = assess([Measure("dose", float("nan"), note="no amount")], rules(dose={"unknown": unknown}))
    assert assessment.verdict is verdict
    assert assessment.sentences(verdict) == ["dose injected before the low-dose series: not known: no amount"]


def test_the_worst_finding_is_the_verdict_and_each_reason_names_measure_series_value_and_limit():
    measures = [Measure("coverage", 80.0, Role.FLAIR), Measure("bias", 40.0, Role.T1), Measure("gain", 1.0)]
    assessment = assess(measures, rules(coverage={"reject_below": 95.0}, bias={"warn_above": 30.0}))
    assert assessment.verdict is Verdict.REJECT
    assert assessment.sentences(Verdict.REJECT) == [
        "brain inside the field of view of flair: 80.0 %, below 95.0 %"
    ]
    assert assessment.sentences(Verdict.WARN) == [
        "strength of the bias field that N4 removed (sd) of t1: 40.0 %, above 30.0 %"
    ]


def test_limits_of_one_series_go_before_those_of_all():
    only = rules(ghosting={"reject_above": 5.0}, ghosting__dwi={"reject_above": 50.0})
    found = assess([Measure("ghosting", 20.0, Role.T1), Measure("ghosting", 20.0, Role.DWI)], only).findings
    assert [finding.verdict for finding in found] == [Verdict.REJECT, Verdict.ACCEPT]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (NONE | {"gain": {"warn_below": 1.0, "reject_below": 2.0}}, "must rise"),
        (NONE | {"gian": {}}, "'gian' is no measure"),
        (NONE | {"gain.liver": {}}, "'liver' is no role"),
        ({name: {} for name in ALL_MEASURES if name != "bias"}, "no limits for bias"),
    ],
)
def test_wrong_limits_are_refused_by_name(limits: dict[str, object], said: str):
    with pytest.raises(ValidationError, match=said):
        QualityRules.model_validate({"limits": limits})


def test_the_shipped_limits_reject_what_no_network_should_see(settings: Settings):
    for measure in (
        Measure("coverage", 80.0, Role.T1), Measure("similarity_z", -30.0, Role.LOW_DOSE),
        Measure("low_dose_delay", -8.0), Measure("brain_volume", 300.0), Measure("spikes", 30.0, Role.FLAIR),
    ):  # fmt: skip
        assert assess([measure], settings.quality).verdict is Verdict.REJECT, measure


def facts(uid: str, **header: object) -> SeriesFacts:
    return SeriesFacts.of([InstanceHeader("1.2", f"{uid}.1", "1.2.3", uid, **header)])  # type: ignore[arg-type]  # by name


def test_headers_tell_dose_order_session_and_field():
    series = {
        Role.T1: facts("1.1", acquired="2026-01-02T10:00:00", field_t=3.0, frame_of_reference_uid="a"),
        Role.LOW_DOSE: facts("1.2", acquired="2026-01-02T09:45:00", field_t=2.9, dose_mmol_kg=0.025,
                             slice_thickness=1.0, slice_spacing=1.5, frame_of_reference_uid="b"),
    }  # fmt: skip
    found = {measure.key: measure.value for measure in header_measures(series)}
    assert found == pytest.approx({
        "field": 0.1, "session": 15.0, "frames_of_reference": 2.0, "slice_thickness.low_dose": 1.0,
        "slice_gap.low_dose": 0.5, "dose": 0.025, "low_dose_delay": -15.0,
    })  # fmt: skip


def test_headers_that_say_nothing_are_unknown_and_not_wrong(settings: Settings):
    measures = header_measures({Role.T1: facts("1.1"), Role.LOW_DOSE: facts("1.2")})
    assessment = assess(measures, settings.quality)
    assert {measure.key for measure in measures if not measure.known} == {"field", "session", "dose", "low_dose_delay"}
    assert assessment.verdict is Verdict.WARN
