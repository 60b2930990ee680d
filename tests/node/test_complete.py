"""Completeness: what is missing is named; what is whole is silent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.complete import hold_reasons, missing_roles, missing_slices
from node.header.frames import Stack
from node.header.instance import InstanceHeader, scan
from node.roles.identify import RoleDecision, SeriesFacts
from preprocessing.volume import Role

REAL = Path(__file__).parents[3] / "shared/data/real/siemens_xa30"
MAGNITUDE = ("ORIGINAL", "PRIMARY", "M")


def image(number: int, *stacks: Stack, series: str = "1.2.1", **values: object) -> InstanceHeader:
    given: dict[str, object] = {
        "modality": "MR", "series_number": int(series.split(".")[-1]), "instance_number": number,
        "image_type": MAGNITUDE, "has_pixel_data": True, "frames": sum(stack.count for stack in stacks),
    } | values  # fmt: skip
    return InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4", sop_instance_uid=f"{series}.{number}", study_instance_uid="1.2",
        series_instance_uid=series, stacks=stacks, **given,  # type: ignore[arg-type]
    )  # fmt: skip


def classic(
    positions: Sequence[float], b: float | None = None, start: int = 1, **values: object
) -> list[InstanceHeader]:
    return [image(start + k, Stack(MAGNITUDE, b, positions=(place,)), **values) for k, place in enumerate(positions)]


def lacks(headers: Sequence[InstanceHeader]) -> tuple[str, ...]:
    return missing_slices(SeriesFacts.of(headers))


def evenly(count: int, step: float = 5.0, first: float = -0.5) -> list[float]:
    return [first + step * k for k in range(count)]


def test_a_missing_slice_is_named_as_a_person_would() -> None:
    places = evenly(24)
    del places[7]
    assert lacks(classic(places)) == ("slice missing between 29.5 mm and 39.5 mm (slice 8 of about 24)",)
    del places[7:9]
    assert lacks(classic(places)) == ("3 slices missing between 29.5 mm and 49.5 mm (slices 8 to 10 of about 24)",)


@given(st.integers(4, 200), st.floats(0.5, 8), st.floats(-200, 200), st.floats(0, 0.04), st.data())
def test_any_inner_slice_that_is_removed_is_named_and_nothing_else(
    count: int, step: float, first: float, rounding: float, data: st.DataObject
) -> None:
    places = [place + rounding * (k % 2) for k, place in enumerate(evenly(count, step, first))]
    assert lacks(classic(places)) == ()
    inner = data.draw(st.integers(1, count - 2))
    lost = places.pop(inner)
    (told,) = lacks(classic(data.draw(st.permutations(places))))
    assert f"(slice {inner + 1} of about {count})" in told
    assert f"{places[inner - 1]:.1f} mm and {places[inner]:.1f} mm" in told
    assert places[inner - 1] < lost < places[inner]


def test_every_second_slice_missing_is_seen_by_the_declared_spacing() -> None:
    assert len(lacks(classic(evenly(12, 6.0), slice_spacing=3.0))) == 11
    assert lacks(classic(evenly(12, 6.0), slice_spacing=6.0, slice_thickness=3.0)) == ()


@pytest.mark.parametrize(
    ("values", "count", "words"),
    [
        ({"declared_instances": 176}, 120, "120 of 176 instances that the series itself declares"),
        ({"declared_series_instances": 24}, 23, "23 of 24 instances"),
        ({"declared_slices": 24}, 23, "23 of 24 slices that the series itself declares"),
        ({"declared_slices": 24}, 24, ""),
        ({"declared_instances": 96, "image_type": ("DERIVED", "PRIMARY", "ADC")}, 24, ""),
        ({"has_pixel_data": False}, 3, "3 of 3 instances have no pixel data"),
        ({"truncated": True}, 3, "3 of 3 instances have truncated pixel data"),
    ],
)
def test_counts_that_the_series_declares(values: dict[str, object], count: int, words: str) -> None:
    told = lacks(classic(evenly(count), **values))
    assert (words in told[0]) if words else told == ()


def test_without_geometry_the_count_decides() -> None:
    headers = [image(k, Stack(MAGNITUDE), declared_instances=24) for k in range(20)]
    assert lacks(headers) == ("20 of 24 instances that the series itself declares",)
    b = [image(k, Stack(MAGNITUDE, 0.0 if k < 20 else 1000.0)) for k in range(59)]
    assert "do not make whole volumes of 20 slices" in lacks(b)[0]
    assert lacks([image(1, Stack(MAGNITUDE))]) == ()


@pytest.mark.parametrize(("lost", "words"), [(30, "b = 1000: 1 of 2 images at 49.5 mm (slice 11 of 20)"),
                                             (20, "b = 1000: 1 of 2 images at -0.5 mm (slice 1 of 20)")])  # fmt: skip
def test_each_b_value_needs_all_slices_of_all_directions(lost: int, words: str) -> None:
    places = evenly(20)
    headers = [*classic(places, 0.0), *classic(places, 1000.0, 100), *classic(places, 1000.0, 200)]
    assert lacks(headers) == ()
    del headers[lost]
    assert lacks(headers) == (words,)
    only = [*classic(places, 0.0), *classic(places[:-1], 1000.0, 100)]
    assert lacks(only) == ("b = 1000: 0 of 1 images at 94.5 mm (slice 20 of 20)",)


def test_enhanced_instances_mosaics_and_concatenations() -> None:
    volume = Stack(MAGNITUDE, 0.0, 1, None, 20, tuple(evenly(20)))
    assert lacks([image(1, volume)]) == ()
    assert lacks([image(1, volume, frames=24)]) == ("an instance holds 24 frames but describes 20",)
    parts = {"concatenation_uid": "1.9", "concatenation_total": 3}
    assert lacks([image(1, volume, **parts)]) == ("1 of 3 parts of a concatenation",)
    short = Stack(MAGNITUDE, 0.0, 1, None, 19, tuple(evenly(20)[:-1]))
    other = Stack(MAGNITUDE, 1000.0, 2, None, 20, tuple(evenly(20)))
    assert lacks([image(1, short), image(2, other)]) == ("b = 0: 0 of 1 images at 94.5 mm (slice 20 of 20)",)


def test_a_real_dwi_misses_whole_volumes_by_their_temporal_position() -> None:
    headers = [scan(path) for path in sorted((REAL / "dwi").iterdir())]
    assert lacks(headers) == ()
    assert lacks(headers[:-1]) == ("20 of 21 temporal positions that the series itself declares (missing: 21)",)
    for folder in ("t1", "adc", "trace"):
        assert lacks([scan(path) for path in (REAL / folder).iterdir()]) == ()


def facts(number: int, places: Sequence[float] = (), **values: object) -> SeriesFacts:
    return SeriesFacts.of(classic(places or evenly(20), series=f"1.2.{number}", **values))


def decided(**by_role: int) -> dict[str, RoleDecision]:
    return {f"1.2.{number}": RoleDecision(Role(role), "so") for role, number in by_role.items()}


def test_what_is_missing_of_a_study() -> None:
    required = ("t1", "flair", "adc", "low_dose")
    given = [facts(number) for number in (1, 2, 3, 4)]
    assert missing_roles(decided(t1=1, flair=2, adc=3, low_dose=4), given, required) == ()
    assert missing_roles(decided(t1=1, flair=2, dwi=3, low_dose=4), given, required) == ()
    told = missing_roles(decided(t1=1), given, required)
    assert [one.split(":")[0] for one in told] == ["flair", "adc", "low_dose"]
    places = evenly(20)
    del places[5]
    broken = [facts(1), facts(2), facts(3, places), facts(4, places)]
    told = missing_roles(decided(t1=1, flair=2, adc=3, low_dose=4), broken, required)
    assert told[0].startswith("adc (series 3): slice missing between 19.5 mm and 29.5 mm")
    assert told[1].startswith("low_dose (series 4): slice missing")
    assert missing_roles(decided(dwi=1, adc=3), broken, ("adc",)) == ()
    defect = {"1.2.1": RoleDecision(None, "T1-weighted, but its geometry is missing", (Role.T1,))}
    assert missing_roles(defect, given, ("t1",)) == (
        "t1: no T1-weighted series before contrast; series 1: T1-weighted, but its geometry is missing",
    )
    with pytest.raises(ValueError, match="t9"):
        missing_roles({}, [], ("t9",))


def test_what_makes_a_study_impossible() -> None:
    assert hold_reasons([facts(1, patient_id="A"), facts(2, patient_id="A")]) == ()
    assert hold_reasons([facts(1, patient_id="A"), facts(2, patient_id="B")]) == (
        "2 different Patient IDs in one study: 'A', 'B'",
    )
    assert "(empty)" in hold_reasons([facts(1, patient_id="A"), facts(2)])[0]
    assert hold_reasons([facts(1, patient_id="A"), facts(2, patient_id="B", ours=True)]) == ()
    assert hold_reasons([facts(1, modality="CT")]) == ("not an MR study: modality CT",)
    assert hold_reasons([facts(1, modality="CT"), facts(2)]) == ()
    assert hold_reasons([]) == ()
