"""Which of the node's studies could join a cohort, and what the simulator's volumes become."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from model.cohort import Cohort, left_out
from node.cli import app
from node.cohort import prepared, received, simulated
from node.cohort_subject import Preparing
from node.database import open_database, ready
from node.states import State
from node.tables import QualityCheck, Series, Study
from preprocessing.normalise import IntensityScale
from preprocessing.role import CHANNELS
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role
from simulator.network import NETWORK_SIZE


def study(key, patient, roles, **more):
    series = [
        Series(key=role, series_instance_uid=f"{key}.{role}", description="", number=1, modality="MR", role=role)
        for role in roles
    ]
    facts = {"state": State.DELIVERED, "study_date": "20260101", "missing": [], "held": [], **more}
    return Study(
        key=key, study_instance_uid=f"1.{key}", patient_id=patient, accession_number="", series=series, **facts
    )


def test_a_study_lacks_what_the_cohort_needs_and_nobody_is_named(settings):
    engine = open_database(settings)
    ready(engine)
    every = ("t1", "flair", "dwi", "low_dose", "full_dose")
    with Session(engine) as session, session.begin():
        session.add_all([
            study("aaaa", "DOE^JANE", every),
            study("bbbb", "DOE^JANE", every[:-1], study_date="20250101"),
            study("cccc", "ROE", every, held=["2 different Patient IDs in one study"]),
            study("dddd", "POE", every, state=State.RECEIVING),
        ])
    found = {one.name: one for one in received(settings, engine, Preparing.of(settings, CHANNELS, lambda *_: None))}
    assert {name: one.lacks for name, one in found.items()} == {
        "study_aaaa": (),
        "study_bbbb": ("it has no full_dose series",),
        "study_cccc": ("2 different Patient IDs in one study",),
        "study_dddd": ("series may still come: it is being received",),
    }
    assert found["study_aaaa"].patient == found["study_bbbb"].patient != found["study_cccc"].patient
    assert "DOE" not in "".join(one.patient + one.anatomy + one.name for one in found.values())


def test_what_quality_control_rejected_stays_out_unless_a_person_took_it(settings):
    engine = open_database(settings)
    ready(engine)
    every = ("t1", "flair", "dwi", "low_dose", "full_dose")
    with Session(engine) as session, session.begin():
        for key, who in (("aaaa", ""), ("bbbb", "a physicist")):
            row = study(key, key, every, inputs_digest=key)
            session.add(row)
            session.flush()
            session.add(QualityCheck(
                study_id=row.id, run=1, inputs_digest=key, verdict="reject", reasons=["ghosting of t1: 9.0"],
                warnings=[], measures=[], accepted_by=who,
            ))  # fmt: skip
    found = {one.name: one for one in received(settings, engine, Preparing.of(settings, CHANNELS, lambda *_: None))}
    assert found["study_aaaa"].lacks == ("quality control rejected it: ghosting of t1: 9.0",)
    assert found["study_bbbb"].lacks == ()


@pytest.fixture
def simulated_folder(tmp_path):
    random = np.random.default_rng(0)
    shape = NETWORK_SIZE[::-1]
    brain = np.zeros(shape, bool)
    brain[40:120, 40:150, 40:120] = True
    lesion = np.zeros(shape, bool)
    lesion[60:70, 60:70, 60:70] = True
    images = {name: random.uniform(1, 1.3, shape).astype(np.float32)  # nothing that is clipped
              for name in ("t1", "flair", "adc", "low_dose", "full_dose")}  # fmt: skip
    folder = tmp_path / "simulated"
    folder.mkdir()
    np.savez(folder / "subject_00007.npz", seed=7, head="head_03", condition="metastases", field_tesla=3.0, brain=brain,
             lesion=lesion, **images)  # fmt: skip
    np.savez(folder / "other.npz", x=1)
    return folder, images, brain


def test_simulated_volumes_are_normalised_by_their_own_brain_and_can_be_taken_back(simulated_folder):
    folder, images, brain = simulated_folder
    (other, one) = simulated(folder, CHANNELS)
    assert (one.name, one.anatomy) == ("subject_00007", "head_03")
    assert "not written by" in other.lacks[0]
    subject = one.load()
    scale = subject.scales[Role.FULL_DOSE]
    assert scale == IntensityScale(*(float(f(images["full_dose"][brain].astype(float))) for f in (np.mean, np.std)))
    np.testing.assert_allclose(scale.from_unit(subject.target)[brain], images["full_dose"][brain], atol=1e-3)
    assert not subject.target[~brain].any()


def test_the_command_says_who_joined_and_who_did_not(simulated_folder, tmp_path):
    cohort = tmp_path / "cohort"
    said = CliRunner().invoke(
        app, ["cohort", "add", str(cohort), "--from-simulator", str(simulated_folder[0]), "--shrink", "4"]
    )
    assert said.exit_code == 0, said.output
    assert "subject_00007: in" in said.output
    assert "1 of 2 sessions are in" in said.output
    (record,) = Cohort.open(cohort).subjects
    assert (record.anatomy, Cohort.open(cohort).voxel_mm) == ("head_03", 4)
    assert [entry.session for entry in left_out(cohort)] == ["other"]
    shown = CliRunner().invoke(app, ["cohort", "show", str(cohort), "--json"])
    assert '"why": "other.npz was not written by' in shown.output


def test_prepared_studies_join_with_their_lesions_and_without_a_full_dose_they_cannot(tmp_path):
    roles = (Role.T1, Role.LOW_DOSE)
    shape = NETWORK_SIZE[::-1]
    brain = np.zeros(shape, bool)
    brain[60:80, 60:80, 60:80] = True
    inputs = np.where(brain, np.float32(0.5), np.float32(0))[None].repeat(2, axis=0)
    scales = {role: IntensityScale(100.0, 10.0) for role in (*roles, Role.FULL_DOSE)}
    study = PreparedStudy(roles, inputs, brain, {}, scales, inputs[0])
    study.save(tmp_path / "anna.npz")
    replace(study, target=None).save(tmp_path / "bert.npz")
    np.save(tmp_path / "anna.lesion.npy", np.ones(shape, bool))
    anna, bert = prepared(tmp_path, roles)
    subject = anna.load()
    np.testing.assert_array_equal(subject.lesion, brain)
    assert subject.scales == scales
    with pytest.raises(ValueError, match="no full_dose"):
        bert.load()
    with pytest.raises(ValueError, match="no flair, adc"):
        next(iter(prepared(tmp_path, CHANNELS))).load()
