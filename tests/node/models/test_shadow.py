"""A shadow's image is compared with the one that was sent, and changes nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from node import steps
from node.cli import app
from node.database import open_database, ready
from node.errors import StudyError
from node.files import DataFolder
from node.inputs import freeze
from node.models.registry import decide
from node.models.shadow import Comparison, compare, record, summarise
from node.models.standing import Standing
from node.room import Room
from node.settings import load_settings
from node.states import State
from node.tables import ShadowResult, Study
from preprocessing.grid import NETWORK_SHAPE
from preprocessing.normalise import IntensityScale
from preprocessing.role import Role
from preprocessing.study import PreparedStudy
from preprocessing.volume_file import write_npz
from tests.model.test_store import write_model

TWO = (Role.T1, Role.LOW_DOSE)


def add_study(engine: Engine, key: str) -> int:
    with Session(engine) as session, session.begin():
        study = Study(
            key=key, study_instance_uid=f"1.2.{key}", patient_id="", accession_number="", study_date="", run=1,
            state=State.DELIVERED,
        )  # fmt: skip
        session.add(study)
        session.flush()
        freeze(session, study)
        return study.id


def test_the_comparison_by_hand():
    brain = np.zeros((8, 8, 8), bool)
    brain[2:6, 2:6, 2:6] = True
    sent = np.where(brain, np.float32(0.5), np.float32(0))
    shadow = np.where(brain, np.float32(0.6), np.float32(1))  # what lies outside does not count
    found = compare(shadow, sent, brain, 2.0)
    assert found.psnr == pytest.approx(20, abs=0.01)  # 0.1 of 1
    assert found.difference == pytest.approx(0.1)
    assert found.largest == pytest.approx(0.1)


def test_the_summary_is_of_all_studies_and_names_the_farthest(engine):
    assert summarise_of(engine, "d") is None
    for key, decibels in (("a", 40.0), ("b", 20.0), ("c", float("inf"))):
        study_id = add_study(engine, key)
        with Session(engine) as session, session.begin():
            for seconds in (9.0, 1.0):  # the second look at the same run replaces the first
                found = Comparison(decibels, 0.9, 0.01, 0.1, seconds)
                record(session, session.get_one(Study, study_id), "d", "other", found)
                session.flush()
    found = summarise_of(engine, "d")
    assert (found.studies, found.psnr, found.lowest_psnr, found.farthest_study) == (3, 40.0, 20.0, "b")
    assert found.seconds == 1.0
    with Session(engine) as session, session.begin():  # another run of the farthest one: its result counts now
        study = session.scalars(select(Study).where(Study.key == "b")).one()
        study.run = 2
        record(session, study, "d", "other", Comparison(41.0, 0.9, 0.01, 0.1, 1.0))
    found = summarise_of(engine, "d")
    assert (found.studies, found.psnr, found.lowest_psnr, found.farthest_study) == (3, 41.0, 40.0, "a")


def summarise_of(engine, digest):
    with Session(engine) as session:
        return summarise(session, digest)


def test_the_step_compares_and_the_commands_tell(make_config, tmp_path):
    config = make_config()
    settings = load_settings(config)
    engine = open_database(settings)
    ready(engine)
    data = DataFolder(settings.node.data)
    write_model(tmp_path / "mine", roles=TWO)
    tried = decide(engine, data, str(tmp_path / "mine"), Standing.SHADOW, "person anna", "to see")
    study_id = add_study(engine, "a")
    random = np.random.default_rng(0)
    brain = np.zeros(NETWORK_SHAPE, bool)
    brain[60:100, 60:100, 60:100] = True
    inputs = np.where(brain, random.random((2, *NETWORK_SHAPE), np.float32), np.float32(0))
    scales = {role: IntensityScale(0.0, 1.0) for role in TWO}
    work = data.work("a", 1)
    work.folder.mkdir(parents=True)
    PreparedStudy(TWO, inputs, brain, {role: np.eye(4) for role in TWO}, scales).save(work.prepared)
    write_npz(work.synthesis, {"virtual": inputs[1], "uncertainty": inputs[0]}, {"model_digest": "sent", "roles": []})
    room = Room(settings, engine)
    before = {path: path.read_bytes() for path in work.folder.iterdir()}
    steps.shadow(room, study_id)
    with Session(engine) as session:
        (row,) = session.scalars(select(ShadowResult)).all()
        assert (row.study_id, row.run, row.digest, row.against) == (study_id, 1, tried.digest, "sent")
        assert 5 < row.psnr < 40
    assert {path: path.read_bytes() for path in work.folder.iterdir()} == before
    result = CliRunner().invoke(app, ["models", "show", "tiny", "--config", str(config)])
    assert "tried on 1 studies" in " ".join(result.output.split())
    listed = CliRunner().invoke(app, ["models", "list", "--json", "--config", str(config)])
    (mine,) = [row for row in json.loads(listed.output) if row["name"] == "tiny"]
    assert mine["standing"] == "shadow" and mine["shadow"]["studies"] == 1

    (data.model(tried.digest) / "weights.safetensors").write_bytes(b"rotten")
    write_model(tmp_path / "second", roles=TWO, seed=1)
    second = decide(engine, data, str(tmp_path / "second"), Standing.SHADOW, "person anna", "to see")
    with pytest.raises(StudyError, match="the shadow tiny"):
        steps.shadow(Room(settings, engine), study_id)
    with Session(engine) as session:  # the one that can be tried was
        assert second.digest in session.scalars(select(ShadowResult.digest)).all()
