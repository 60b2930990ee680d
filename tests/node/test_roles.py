"""Roles: physics first, contrast and time next, names last."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from node.header.frames import Stack
from node.header.instance import InstanceHeader, scan
from node.roles.identify import SeriesFacts, identify
from node.roles.rules import RoleRules

REAL = Path(__file__).parents[3] / "shared/data/real/siemens_xa30"
RULES = RoleRules()
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

# What scanners write: (TR, TE, TI, flip), scanning sequence, variant, 2D or 3D
MPRAGE = {"tr_ms": 2300.0, "te_ms": 2.98, "ti_ms": 900.0, "flip_deg": 9.0, "scanning_sequence": ("GR", "IR"),
          "sequence_variant": ("SK", "SP", "MP"), "mr_acquisition_type": "3D"}  # fmt: skip
BRAVO = {"tr_ms": 8.2, "te_ms": 3.2, "ti_ms": 450.0, "flip_deg": 12.0, "scanning_sequence": ("GR",),
         "sequence_variant": ("SS", "SP", "SK"), "mr_acquisition_type": "3D"}  # fmt: skip
TFE = {"tr_ms": 8.1, "te_ms": 3.7, "flip_deg": 8.0, "scanning_sequence": ("GR",), "sequence_variant": ("MP",),
       "mr_acquisition_type": "3D"}  # fmt: skip
FLASH_2D = {"tr_ms": 250.0, "te_ms": 2.5, "flip_deg": 70.0, "scanning_sequence": ("GR",), "mr_acquisition_type": "2D"}
SPIN_T1 = {"tr_ms": 550.0, "te_ms": 9.0, "flip_deg": 90.0, "scanning_sequence": ("SE",), "mr_acquisition_type": "2D"}
SPACE_T1 = {"tr_ms": 700.0, "te_ms": 12.0, "flip_deg": 120.0, "scanning_sequence": ("SE",), "echo_train_length": 40,
            "mr_acquisition_type": "3D"}  # fmt: skip
T1_FLAIR = {"tr_ms": 2100.0, "te_ms": 12.0, "ti_ms": 860.0, "flip_deg": 150.0, "scanning_sequence": ("SE", "IR")}
FLAIR_2D = {"tr_ms": 9000.0, "te_ms": 91.0, "ti_ms": 2500.0, "flip_deg": 150.0, "scanning_sequence": ("SE", "IR"),
            "mr_acquisition_type": "2D"}  # fmt: skip
FLAIR_3D = {"tr_ms": 5000.0, "te_ms": 388.0, "ti_ms": 1800.0, "flip_deg": 120.0, "scanning_sequence": ("SE", "IR"),
            "mr_acquisition_type": "3D"}  # fmt: skip
FLAIR_PHILIPS = {"tr_ms": 4800.0, "te_ms": 302.0, "ti_ms": 1650.0, "flip_deg": 90.0, "scanning_sequence": ("IR",)}
EPI = {"tr_ms": 5400.0, "te_ms": 80.0, "flip_deg": 90.0, "scanning_sequence": ("EP",)}
T2 = {"tr_ms": 5000.0, "te_ms": 100.0, "flip_deg": 150.0, "scanning_sequence": ("SE",)}
PD = {"tr_ms": 3000.0, "te_ms": 12.0, "flip_deg": 150.0, "scanning_sequence": ("SE",)}
STIR = {"tr_ms": 5000.0, "te_ms": 60.0, "ti_ms": 160.0, "flip_deg": 150.0, "scanning_sequence": ("SE", "IR")}
T2_STAR = {"tr_ms": 800.0, "te_ms": 20.0, "flip_deg": 20.0, "scanning_sequence": ("GR",)}
SWI = {"tr_ms": 28.0, "te_ms": 20.0, "flip_deg": 15.0, "scanning_sequence": ("GR",), "mr_acquisition_type": "3D"}
TRUFI = {"tr_ms": 5.0, "te_ms": 2.2, "flip_deg": 50.0, "scanning_sequence": ("GR",), "sequence_variant": ("SS",)}
SCOUT = {"tr_ms": 3.15, "te_ms": 1.37, "flip_deg": 8.0, "scanning_sequence": ("GR",), "mr_acquisition_type": "3D"}
PD_GRE = {"tr_ms": 8.0, "te_ms": 3.0, "flip_deg": 3.0, "scanning_sequence": ("GR",), "mr_acquisition_type": "3D"}
INV2 = MPRAGE | {"tr_ms": 5000.0, "ti_ms": 2500.0}


def series(number: int, values: dict[str, object] | None = None, **more: object) -> SeriesFacts:
    """One series of 60 slices of 2.5 mm in one enhanced-like instance, acquired at minute ``number``."""
    given: dict[str, object] = {
        "modality": "MR", "series_number": number, "acquired": f"2026-01-02T10:{number:02d}:00", "frames": 60,
        "image_type": ("ORIGINAL", "PRIMARY", "M"), "pixel_spacing": (1.0, 1.0), "slice_thickness": 2.5,
        "orientations": (AXIAL,), "has_pixel_data": True, "rows": 256, "columns": 256,
    } | (values or {}) | more  # fmt: skip
    slices = int(given.pop("slices", 60))  # type: ignore[call-overload]
    step = float(given.pop("step", 2.5))  # type: ignore[arg-type]
    b_values = given.pop("b_values", (None,))
    positions = tuple(k * step for k in range(slices))
    stacks = given.pop("stacks", tuple(
        Stack(given["image_type"], b, count=slices, positions=positions) for b in b_values))  # type: ignore
    header = InstanceHeader(
        sop_class_uid=str(given.pop("sop_class_uid", "1.2.840.10008.5.1.4.1.1.4.1")),
        sop_instance_uid=f"1.2.{number}.1",
        study_instance_uid="1.2", series_instance_uid=f"1.2.{number}", stacks=stacks, **given,  # type: ignore[arg-type]
    )  # fmt: skip
    return SeriesFacts.of([header])


def roles(*given: SeriesFacts, rules: RoleRules = RULES) -> dict[int, str | None]:
    decisions = identify(given, rules)
    assert decisions.keys() == {one.uid for one in given}
    assert all(decision.because for decision in decisions.values())
    return {
        one.lead.series_number or 0: None if (role := decisions[one.uid].role) is None else role.value for one in given
    }


def because(*given: SeriesFacts, number: int, rules: RoleRules = RULES) -> str:
    return identify(given, rules)[f"1.2.{number}"].because


ADC = {"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")} | EPI
ADC_PHILIPS = EPI | {"image_type": ("DERIVED", "PRIMARY", "ADC", "ADC", "UNSPECIFIED")}
ADC_UNITS = EPI | {"image_type": ("DERIVED", "SECONDARY", "PROCESSED"), "units": "10-6 mm2/s"}


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (MPRAGE, "t1"), (BRAVO, "t1"), (TFE, "t1"), (FLASH_2D, "t1"), (SPIN_T1, "t1"), (SPACE_T1, "t1"),
        (T1_FLAIR, "t1"), (MPRAGE | {"ti_ms": None, "scanning_sequence": ("GR",)}, "t1"),
        ({key: BRAVO[key] for key in ("tr_ms", "te_ms", "flip_deg")}, "t1"),
        (FLAIR_2D, "flair"), (FLAIR_3D, "flair"), (FLAIR_PHILIPS, "flair"), (FLAIR_2D | {"ti_ms": None}, "flair"),
        (EPI | {"b_values": (0.0, 1000.0)}, "dwi"), (EPI | {"b_values": (50.0, 400.0, 800.0)}, "dwi"),
        (EPI | {"b_values": (0.0, 1000.0), "image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW")}, "dwi"),
        (EPI | {"b_values": (1000.0,), "image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW")}, None),
        (EPI | {"b_values": (0.0,)}, None), (EPI | {"b_values": (0.0, 300.0)}, None), (EPI, None),
        (ADC, "adc"), (ADC_PHILIPS, "adc"), (ADC_UNITS, "adc"),
        (EPI | {"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "EADC")}, None),
        (EPI | {"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "FA")}, None),
        (T2, None), (PD, None), (STIR, None), (T2_STAR, None), (SWI, None), (TRUFI, None), (SCOUT, None),
        (PD_GRE, None), (INV2, None),
        (MPRAGE | {"image_type": ("ORIGINAL", "PRIMARY", "P")}, None),
        (MPRAGE | {"image_type": ("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")}, None),
        (MPRAGE | {"complex_component": "PHASE"}, None),
        (MPRAGE | {"image_type": ("DERIVED", "SECONDARY", "MPR")}, None),
        (MPRAGE | {"image_type": ("DERIVED", "SECONDARY", "PROJECTION IMAGE")}, None),
        (MPRAGE | {"image_type": ("DERIVED", "PRIMARY", "M", "NORM")}, "t1"),
        (BRAVO | {"angio": True}, None), (MPRAGE | {"ours": True}, None), (MPRAGE | {"modality": "CT"}, None),
        (MPRAGE | {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, None), (MPRAGE | {"has_pixel_data": False}, None),
        (MPRAGE | {"slices": 5}, None), (MPRAGE | {"step": 1.0, "slices": 40}, None),
        (MPRAGE | {"pixel_spacing": (6.0, 6.0)}, None),
        (MPRAGE | {"orientations": (), "stacks": (Stack(count=60),)}, None),
        (FLASH_2D | {"orientations": (AXIAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))}, None),
    ],
)  # fmt: skip
def test_a_series_alone_shows_what_it_is(values: dict[str, object], role: str | None) -> None:
    assert roles(series(4, values)) == {4: role}
    for name in ("t1 mprage low dose", "FLAIR dark fluid", "ADC", "T2 tse", "DWI b1000", ""):
        assert roles(series(4, values, series_description=name, protocol_name=name)) == {4: role}, name


def test_a_defect_is_told_with_the_role_it_cost() -> None:
    broken = series(4, MPRAGE, orientations=(), stacks=(Stack(count=60),))
    decision = identify([broken], RULES)["1.2.4"]
    assert decision.nearly == ("t1", "low_dose", "full_dose")
    assert decision.because == (
        "T1-weighted inversion-recovery gradient echo (TR 2300, TE 2.98, TI 900 ms, flip 9°), "
        "but its geometry is missing (Image Position or Image Orientation)"
    )


def test_several_volumes_of_one_sequence_are_no_anatomical_series() -> None:
    positions = tuple(sorted([k * 2.5 for k in range(60)] * 30))
    dynamic = series(4, BRAVO, stacks=(Stack(("ORIGINAL", "PRIMARY", "M"), count=1800, positions=positions),))
    assert roles(dynamic) == {4: None}
    assert "30 images at one place" in because(dynamic, number=4)


def test_phase_beside_magnitude_is_overlooked() -> None:
    positions = tuple(k * 2.5 for k in range(60))
    both = tuple(Stack(("ORIGINAL", "PRIMARY", part), count=60, positions=positions) for part in ("M", "P"))
    assert roles(series(4, MPRAGE, stacks=both)) == {4: "t1"}


def test_philips_keeps_the_adc_in_the_dwi_series() -> None:
    positions = tuple(k * 2.5 for k in range(60))
    raw, adc = ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"), ("DERIVED", "PRIMARY", "ADC", "ADC", "UNSPECIFIED")
    stacks = tuple(Stack(kind, b, count=60, positions=positions) for kind, b in ((raw, 0.0), (raw, 1000.0), (adc, 0.0)))
    mixed = series(4, EPI, stacks=stacks)
    assert roles(mixed) == {4: "dwi"}
    assert "ADC among its images" in because(mixed, number=4)


LOW = {"contrast_agent": "Dotarem", "dose_mmol_kg": 0.025}
SECOND = {"contrast_agent": "Dotarem", "dose_mmol_kg": 0.075}
FULL = {"contrast_agent": "Dotarem", "dose_mmol_kg": 0.1}
AGENT = {"contrast_agent": "Dotarem"}
PROTOCOL = {1: "t1", 2: "low_dose", 3: "full_dose"}


@pytest.mark.parametrize("sequence", [MPRAGE, BRAVO, TFE, SPIN_T1, SPACE_T1])
@pytest.mark.parametrize(
    "tags",
    [
        ({}, LOW, FULL), ({}, LOW, SECOND), ({}, {}, {}), ({}, AGENT, AGENT), (AGENT, AGENT, AGENT), (FULL, FULL, FULL),
        ({"contrast_agent": "NONE"}, LOW, FULL), ({"contrast_administered": False}, LOW, FULL),
        ({"contrast_agent": "Dotarem", "dose_mmol_kg": 0.0}, LOW, FULL), ({}, AGENT, FULL), ({}, LOW, AGENT),
        ({}, LOW, {}), ({}, AGENT | {"contrast_start": "101500"}, AGENT | {"contrast_start": "102500"}),
    ],
)  # fmt: skip
def test_two_injections_are_told_apart(
    sequence: dict[str, object], tags: tuple[dict[str, object], ...]
) -> None:
    given = [series(number, sequence, **tag) for number, tag in enumerate(tags, 1)]
    for order in permutations(given):
        assert roles(*order) == PROTOCOL


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (({}, FULL), {1: "t1", 2: "full_dose"}), (({}, LOW), {1: "t1", 2: "low_dose"}),
        (({}, AGENT), {1: "t1", 2: "low_dose"}), (({}, {}), {1: "t1", 2: "low_dose"}), ((LOW,), {1: "low_dose"}),
    ],
)  # fmt: skip
def test_shorter_studies(tags: tuple[dict[str, object], ...], expected: dict[int, str]) -> None:
    assert roles(*(series(number, MPRAGE, **tag) for number, tag in enumerate(tags, 1))) == expected


def test_tags_win_over_time_and_the_conflict_is_told() -> None:
    given = [series(1, MPRAGE, **LOW), series(2, MPRAGE), series(3, MPRAGE, **FULL)]
    assert roles(*given) == {1: "low_dose", 2: "t1", 3: "full_dose"}
    assert "tags and times conflict" in because(*given, number=2)


def test_series_numbers_order_where_times_are_missing() -> None:
    given = [series(number, MPRAGE, acquired="") for number in (1, 2, 3)]
    assert roles(*given) == PROTOCOL


def test_the_protocol_sequence_is_preferred_over_another_t1() -> None:
    given = [series(1, SPIN_T1), series(2, MPRAGE), series(3, MPRAGE, **LOW), series(4, SPIN_T1, **LOW),
             series(5, MPRAGE, **FULL)]  # fmt: skip
    assert roles(*given) == {1: None, 2: "t1", 3: "low_dose", 4: None, 5: "full_dose"}
    assert "series 2 was preferred because its sequence matches" in because(*given, number=1)
    silent = [series(1, SPIN_T1), series(2, MPRAGE), series(3, MPRAGE), series(4, MPRAGE)]
    assert roles(*silent) == {1: None, 2: "t1", 3: "low_dose", 4: "full_dose"}


def test_a_repeat_before_contrast_replaces_the_first() -> None:
    given = [series(1, MPRAGE), series(2, MPRAGE), series(3, MPRAGE, **LOW)]
    assert roles(*given) == {1: None, 2: "t1", 3: "low_dose"}
    assert "series 2 was preferred because it was acquired later" in because(*given, number=1)


def at(minute: int) -> dict[str, object]:
    return {"acquired": f"2026-01-02T10:{minute:02d}:00"}


def test_without_contrast_tags_more_than_three_runs_cannot_be_told_apart() -> None:
    given = [series(number, MPRAGE) for number in (1, 2, 3, 4)]
    assert roles(*given) == {1: "t1", 2: None, 3: None, 4: None}
    assert "cannot be told: number 2 of 4 T1 series" in because(*given, number=2)


def test_an_angiography_is_not_compared_with_the_t1_series() -> None:
    time_of_flight = {**BRAVO, "tr_ms": 22.0, "te_ms": 3.6, "ti_ms": None, "flip_deg": 18.0}
    spoiled = {**BRAVO, "ti_ms": None}
    given = [series(1, spoiled), series(2, time_of_flight), series(3, spoiled), series(4, spoiled)]
    assert roles(*given) == {1: "t1", 2: None, 3: "low_dose", 4: "full_dose"}


def test_different_t1_series_without_contrast_tags_are_not_taken_for_injections() -> None:
    given = [series(1, SPIN_T1), series(2, MPRAGE)]
    assert roles(*given) == {1: "t1", 2: None}
    assert "no two T1 series have the same protocol" in because(*given, number=2)


def test_two_reconstructions_of_one_acquisition_are_one() -> None:
    given = [series(2 * minute + copy, MPRAGE, **at(minute)) for minute in (1, 2, 3) for copy in (0, 1)]
    assert roles(*given) == {2: "t1", 3: None, 4: "low_dose", 5: None, 6: "full_dose", 7: None}


def test_a_reformat_does_not_count_as_an_acquisition() -> None:
    derived = {"image_type": ("DERIVED", "SECONDARY", "OTHER")}
    given = [series(1, MPRAGE), series(2, MPRAGE), series(3, MPRAGE), series(4, MPRAGE, **derived, **at(2))]
    assert roles(*given) == PROTOCOL | {4: None}
    assert "calculated from series 2" in because(*given, number=4)


def test_a_forgotten_first_injection_is_found_or_told() -> None:
    def study(**full: object) -> list[SeriesFacts]:
        return [series(1, MPRAGE, **at(1)), series(2, MPRAGE, **at(20)), series(3, MPRAGE, **at(30), **full)]

    assert roles(*study(**FULL, contrast_injections=2)) == PROTOCOL
    assert "series 3 tells of two" in because(*study(**FULL, contrast_injections=2), number=2)
    assert roles(*study(**FULL)) == {1: "t1", 2: None, 3: "full_dose"}
    assert roles(*study(**AGENT)) == {1: "t1", 2: None, 3: None}
    assert "the low dose with its tags forgotten" in because(*study(**AGENT), number=2)


def test_the_time_of_injection_alone_tells_of_contrast() -> None:
    starts = ({}, {"contrast_start": "101500"}, {"contrast_start": "102500.5"})
    given = [series(number, MPRAGE, **start) for number, start in enumerate(starts, 1)]
    assert roles(*given) == PROTOCOL
    assert "by its injection time 10:25:00 (neither agent nor dose in the header)" in because(*given, number=3)


def test_flair_before_contrast_and_raw_diffusion_are_preferred() -> None:
    given = [series(1, FLAIR_2D), series(2, MPRAGE), series(3, MPRAGE, **LOW), series(4, FLAIR_2D)]
    assert roles(*given) == {1: "flair", 2: "t1", 3: "low_dose", 4: None}
    b = {"b_values": (0.0, 1000.0)}
    raw, trace = series(1, EPI, **b), series(2, EPI, image_type=("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"), **b)
    assert roles(raw, trace) == {1: "dwi", 2: None}


def test_names_decide_only_where_the_header_is_silent() -> None:
    silent = {"te_ms": None}
    assert roles(series(1, silent, series_description="Ax T2 FLAIR")) == {1: "flair"}
    assert roles(series(1, silent, series_description="Sag T1 MPRAGE")) == {1: "t1"}
    assert roles(series(1, silent, series_description="something")) == {1: None}
    assert "named as" in because(series(1, silent, series_description="Ax FLAIR"), number=1)
    same_time = [series(n, MPRAGE, acquired="2026-01-02T10:00:00", series_description=name, dose_mmol_kg=0.025,
                        contrast_agent="Dotarem") for n, name in ((1, "T1 low-dose"), (2, "T1"))]  # fmt: skip
    assert roles(*same_time) == {1: "low_dose", 2: None}


def whole_study() -> list[SeriesFacts]:
    return [
        series(1, SCOUT, series_description="AAHead_Scout"), series(2, T2, series_description="T2 tse"),
        series(3, FLAIR_3D, series_description="FLAIR"),
        series(4, EPI, b_values=(0.0, 1000.0), series_description="DWI"),
        series(5, ADC, series_description="DWI_ADC"), series(6, MPRAGE, series_description="T1 mprage"),
        series(7, SWI, series_description="SWI"), series(8, MPRAGE, series_description="T1 low dose", **LOW),
        series(9, MPRAGE, series_description="T1 full dose", **FULL),
        series(10, MPRAGE, series_description="MPR cor", image_type=("DERIVED", "SECONDARY", "MPR"), **FULL),
    ]  # fmt: skip


def test_shuffled_or_removed_descriptions_change_nothing() -> None:
    study = whole_study()
    expected = {1: None, 2: None, 3: "flair", 4: "dwi", 5: "adc", 6: "t1", 7: None, 8: "low_dose", 9: "full_dose",
                10: None}  # fmt: skip
    assert roles(*study) == expected
    names = [one.lead.series_description for one in study]
    for shift in range(1, len(names)):
        names = [*names[shift:], *names[:shift]]
        renamed = [_renamed(one, name) for one, name in zip(study, names, strict=True)]
        assert roles(*renamed) == expected
    assert roles(*(_renamed(one, "") for one in study)) == expected


def _renamed(facts: SeriesFacts, name: str) -> SeriesFacts:
    return SeriesFacts.of(replace(h, series_description=name, protocol_name=name) for h in facts.headers)


@pytest.mark.parametrize("names", ["kept", "removed", "shuffled"])
def test_a_real_siemens_xa_study(names: str) -> None:
    folders = ["t1", "dwi", "adc", "trace"]
    study = {folder: SeriesFacts.of(scan(path) for path in sorted((REAL / folder).iterdir())) for folder in folders}
    given = dict(study)
    if names == "removed":
        given = {folder: _renamed(facts, "") for folder, facts in study.items()}
    if names == "shuffled":
        given = {folder: _renamed(study[folder], study[other].lead.series_description)
                 for folder, other in zip(folders, ["adc", "trace", "t1", "dwi"], strict=True)}  # fmt: skip
    decisions = identify(list(given.values()), RULES)
    found = {folder: decisions[facts.uid].role for folder, facts in given.items()}
    assert found == {"t1": "t1", "dwi": "dwi", "adc": "adc", "trace": None}


def test_overrides_win_over_everything() -> None:
    rules = RoleRules.model_validate({"override": [
        {"role": "ignore", "series_description": "^test"}, {"role": "flair", "series_number": 2},
        {"role": "t1", "ae_title": "mr3", "manufacturer": "ge"},
    ]})  # fmt: skip
    given = [series(1, MPRAGE, series_description="TEST run"), series(2, T2), series(3, FLAIR_3D)]
    assert roles(*given, rules=rules) == {1: None, 2: "flair", 3: None}
    assert "rule of this site" in because(*given, number=3, rules=rules)
    sent = SeriesFacts.of(series(4, T2, manufacturer="GE MEDICAL").headers, ae_title="MR3")
    assert roles(sent, rules=rules) == {4: "t1"}


def test_facts_refuse_what_is_no_series() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SeriesFacts.of([])
    with pytest.raises(ValueError, match="different series"):
        SeriesFacts.of([series(1).lead, replace(series(2).lead, sop_instance_uid="1.9")])
