"""Headers of a real scanner, and headers as they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.header.frames import Stack
from node.header.instance import HeaderError, InstanceHeader, scan

REAL = Path(__file__).parents[3] / "shared/data/real/siemens_xa30"


@pytest.mark.parametrize(
    ("folder", "frames", "b_values"), [("t1", 96, ()), ("dwi", 39, (0.0,)), ("adc", 39, ()), ("trace", 39, (2500.0,))]
)
def test_a_real_siemens_xa_scanner(folder: str, frames: int, b_values: tuple[float, ...]) -> None:
    header = scan(min((REAL / folder).iterdir()))
    assert (header.frames, header.b_values, header.truncated) == (frames, b_values, False)
    assert len(header.slice_positions) == frames
    assert header.unreadable == ()
    if folder == "t1":
        assert (header.tr_ms, header.te_ms, header.ti_ms, header.flip_deg) == (1800, 2.41, 900, 9)
        assert header.scanning_sequence == ("GR", "IR")
        assert header.acquired == "2022-07-11T12:05:17.042500"


_numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(max_size=12)
_stacks = st.builds(
    Stack, st.lists(_texts, max_size=3).map(tuple), _numbers, st.none() | st.integers(), _numbers, st.integers(0, 9),
    st.lists(st.floats(-300, 300), max_size=4).map(tuple),
)  # fmt: skip
_headers = st.builds(
    InstanceHeader, st.just("1.2"), st.just("1.3"), st.just("1.4"), st.just("1.5"), patient_id=_texts, tr_ms=_numbers,
    image_type=st.lists(_texts, max_size=4).map(tuple), series_number=st.none() | st.integers(),
    orientations=st.lists(st.tuples(*[st.floats(-1, 1)] * 6), max_size=2).map(tuple), ours=st.booleans(),
    stacks=st.lists(_stacks, max_size=3).map(tuple),
)  # fmt: skip


@given(_headers)
def test_json_and_back_is_the_same(header: InstanceHeader) -> None:
    assert InstanceHeader.from_json(json.loads(json.dumps(header.to_json()))) == header


def test_json_of_another_version_is_refused() -> None:
    with pytest.raises(HeaderError, match="colour"):
        InstanceHeader.from_json({"colour": 1})
