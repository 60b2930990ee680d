"""Who joins a cohort and who is left out, and the coarser grid."""

from dataclasses import replace

import numpy as np
import pytest

from model.cohort import Cohort, CohortError, left_out
from model.gather import Session, describe, gather
from model.shrink import shrink
from preprocessing.normalise import IntensityScale
from preprocessing.volume import Role

from .tiny import ROLES, tiny_subject


def session(name, patient, date="", lacks=(), load=None):
    return Session(name, patient, patient, date, lacks, load or (lambda: tiny_subject(1)))


def unprepared():
    raise ValueError("no brain was found")


def fates(results):
    return {one.session.name: one.why for one in results}


def add(folder, sessions, rejected=None):
    return fates(gather(folder, ROLES, sessions, rejected=rejected or {}, told=lambda one: None))


SESSIONS = [
    session("b2", "bea", "20260202"),
    session("b1", "bea", "20260101", lacks=("it has no flair series",)),
    session("b3", "bea", "20260303"),
    session("c1", "cid", load=unprepared),
    session("d1", "dan"),
]


def test_the_first_complete_session_of_a_patient_joins_and_the_others_are_named(tmp_path):
    results = add(tmp_path, SESSIONS, {"d1": "moved all the time"})
    assert results == {
        "b1": "it has no flair series",
        "b2": "",
        "b3": "another session of the patient is in the cohort: b2",
        "c1": "cannot be prepared: no brain was found",
        "d1": "rejected: moved all the time",
    }
    assert [(record.name, record.patient) for record in Cohort.open(tmp_path).subjects] == [("b2", "bea")]
    assert {entry.session: entry.why for entry in left_out(tmp_path)} == {n: w for n, w in results.items() if w}


def test_a_name_that_is_taken_replaces_nobody(tmp_path):
    first, second = (gather(tmp_path, ROLES, [one], rejected={}, told=lambda one: None)
                     for one in (session("s1", "bea"), session("s1", "cid")))  # fmt: skip
    assert first[0].why == "" and second[0].why == "a session of another patient has its name: bea"
    assert [record.patient for record in Cohort.open(tmp_path).subjects] == ["bea"]


def test_adding_again_changes_nothing_and_a_later_verdict_counts(tmp_path):
    add(tmp_path, SESSIONS)
    before = Cohort.open(tmp_path).digest
    never = [replace(one, load=unprepared) if one.name == "b2" else one for one in SESSIONS]
    add(tmp_path, never)  # what is there is not loaded again
    assert Cohort.open(tmp_path).digest == before
    add(tmp_path, SESSIONS, {"b2": "wrong patient"})
    assert [record.name for record in Cohort.open(tmp_path).subjects] == ["b3", "d1"]
    assert "b3" not in {entry.session for entry in left_out(tmp_path)}
    assert not (tmp_path / "b2").exists()


def test_a_cohort_of_other_inputs_or_voxels_is_refused(tmp_path):
    add(tmp_path, SESSIONS)
    with pytest.raises(CohortError, match="not t1, adc"):
        gather(tmp_path, (Role.T1, Role.ADC), [], rejected={}, told=lambda one: None)
    with pytest.raises(CohortError, match="voxels of 1 mm"):
        gather(tmp_path, ROLES, [], rejected={}, shrunk=2, told=lambda one: None)


def test_two_at_once_are_refused(tmp_path):
    def meanwhile():
        with pytest.raises(CohortError, match="another process is adding to"):
            add(tmp_path, [session("e1", "eve")])
        return tiny_subject(1)

    assert add(tmp_path, [session("d1", "dan", load=meanwhile)]) == {"d1": ""}
    assert add(tmp_path, [session("e1", "eve")]) == {"e1": ""}


def test_the_description_counts_lesions_and_millilitres(tmp_path):
    add(tmp_path, SESSIONS[:1])
    (subject,) = describe(tmp_path).subjects
    assert subject.lesions >= 1
    assert subject.lesion_ml == round(tiny_subject(1).lesion.sum() / 1000, 2)


def test_scales_are_kept_and_decide_the_digest(tmp_path):
    scales = {Role.T1: IntensityScale(100.0, 10.0), Role.FULL_DOSE: IntensityScale(120.0, 15.0)}
    gather(tmp_path / "a", ROLES, SESSIONS[:1], rejected={}, told=lambda one: None)
    scaled = replace(SESSIONS[0], load=lambda: replace(tiny_subject(1), scales=scales))
    gather(tmp_path / "b", ROLES, [scaled], rejected={}, told=lambda one: None)
    cohort = Cohort.open(tmp_path / "b")
    assert cohort.read(cohort.subjects[0]).scales == scales
    cohort.verify()
    assert cohort.digest != Cohort.open(tmp_path / "a").digest


def test_a_coarse_voxel_is_the_mean_of_its_cube():
    fine = tiny_subject(1)
    coarse = shrink(fine, 2)
    assert coarse.target.shape == (16, 16, 16)
    cube = fine.target[16:18, 16:18, 16:18].astype(np.float32).mean()
    assert coarse.target[8, 8, 8] == pytest.approx(cube, abs=1e-3)
    assert coarse.lesion.any()
    assert not (coarse.lesion & ~coarse.brain).any()
    with pytest.raises(ValueError, match="at least 1"):
        shrink(fine, 0)


def test_a_grid_that_the_network_cannot_take_is_padded_with_background():
    fine = tiny_subject(1)
    cut = replace(fine, input=fine.input[:, :20], target=fine.target[:20], brain=fine.brain[:20],
                  lesion=fine.lesion[:20])  # fmt: skip
    padded = shrink(cut, 1)
    assert padded.target.shape == (32, 32, 32)
    np.testing.assert_array_equal(padded.target[6:26], np.where(cut.brain, cut.target, 0))
    assert not padded.brain[:6].any()
