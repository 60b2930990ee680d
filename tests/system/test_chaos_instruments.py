"""The chaos run's own instruments: a proxy that cuts where it says, and a verdict that sees what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from benchmarks.chaos.proxy import Cut, Fate
from benchmarks.chaos.studies import dataset_digest, multiply
from benchmarks.chaos.verdict import lost
from node.database import open_database, ready
from node.settings import Settings
from node.states import State
from node.tables import Instance, Series, Study
from tests.mr_slices import mr_slice


@given(st.lists(st.integers(4, 300), min_size=1, max_size=20), st.integers(1, 25), st.randoms())
def test_a_reset_between_pdus_lies_after_whole_ones(lengths: list[int], count: int, rng: random.Random):
    pdus = [b"\x04\x00" + length.to_bytes(4, "big") + bytes(length) for length in lengths]
    stream, fate, passed = b"".join(pdus), Fate(Cut.BETWEEN, count), 0
    place = 0
    while place < len(stream) and not fate.is_over:
        piece = stream[place : place + rng.randint(1, 200)]
        passed += fate.passes(piece, from_caller=True)
        place += len(piece)
    assert passed == len(b"".join(pdus[:count]))
    assert fate.is_over == (len(pdus) >= count)


def test_a_reset_inside_lies_at_its_byte_and_in_its_direction():
    fate = Fate(Cut.ANSWER, 5)
    assert fate.passes(b"any number of these", from_caller=True) == 19
    assert [fate.passes(b"abc", from_caller=False) for _ in range(2)] == [3, 2]
    assert fate.is_over


@pytest.fixture
def engine(settings: Settings) -> Engine:
    engine = open_database(settings)
    ready(engine)
    return engine


@pytest.mark.parametrize(
    ("harm", "said"),
    [("none", None), ("a bit", "other bytes are kept"), ("the file", "file is gone"), ("the row", "0 current rows")],
)
def test_the_verdict_sees_what_is_lost(engine: Engine, settings: Settings, tmp_path: Path, harm: str, said: str | None):
    template = tmp_path / "slice.dcm"
    mr_slice("T1", 1).save_as(template, enforce_file_format=True)
    [study] = multiply([template], 1, 1, tmp_path / "sent")
    [sent] = study.files
    kept = settings.node.data / "kept.dcm"
    kept.write_bytes(sent.read_bytes())
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid=study.study_instance_uid, patient_id="", accession_number="", study_date="",
            state=State.RECEIVING,
        )  # fmt: skip
        series = Series(study=row, key="s", series_instance_uid="1", description="", number=1, modality="MR", role=None)
        if harm != "the row":
            uid = _sop_instance_uid(sent)
            session.add(
                Instance(series=series, sop_instance_uid=uid, version=1, digest="", path=kept.name, size=0,
                         sender="", header={})
            )  # fmt: skip
        session.add(row)
    acknowledged = {sent: dataset_digest(sent)}
    if harm == "a bit":
        content = bytearray(kept.read_bytes())
        content[-1] ^= 1
        kept.write_bytes(content)
    elif harm == "the file":
        kept.unlink()
    found = list(lost(acknowledged, settings.node.data, engine))
    assert found == [] if said is None else len(found) == 1 and said in found[0]


def _sop_instance_uid(path: Path) -> str:
    return str(dcmread(path).SOPInstanceUID)
