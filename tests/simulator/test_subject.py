"""The true head: tissues, parameters, contrast, and that a seed fixes all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.heads import AnatomyError
from simulator.kinetics import Injection, concentrations
from simulator.lesions import Condition
from simulator.subject import Subject, SubjectSettings, person, simulate_subject
from simulator.tissue import SUBJECT_SPREAD, Tissue, tissue_table

GIVEN = (Injection(0.0, 0.1),)


def test_the_same_seed_gives_the_same_subject(subject: Subject) -> None:
    again = simulate_subject(7, settings=SubjectSettings(condition=Condition.GLIOBLASTOMA))
    assert np.array_equal(again.tissues, subject.tissues)
    assert again.person == subject.person
    assert np.array_equal(again.concentration(5, GIVEN), subject.concentration(5, GIVEN))


def test_a_person_is_plainly_fictional() -> None:
    assert person(12).name == "SIMULATED^PATIENT 0012"
    assert person(12) == person(12) != person(13)
    assert 42 <= person(3).weight <= 130


def test_what_maps_lack_is_there(subject: Subject) -> None:
    millilitres = {t: float((subject.tissues == t).sum()) / 1000 for t in Tissue}
    for tissue, (low, high) in {
        Tissue.DURA: (10, 150), Tissue.CHOROID: (0.3, 8), Tissue.PITUITARY: (0.1, 1.5), Tissue.VEIN: (3, 50),
        Tissue.ARTERY: (1, 25), Tissue.FAT: (150, 1500), Tissue.MUSCLE: (150, 2500), Tissue.SKIN: (80, 600),
    }.items():  # fmt: skip
        assert low < millilitres[tissue] < high, tissue.name


def test_the_brain_mask_is_the_brain_with_its_fluid(subject: Subject) -> None:
    assert 1.1e6 < subject.brain.sum() < 2.2e6
    inside = subject.tissues[subject.brain]
    assert np.isin(inside, (Tissue.BONE, Tissue.SKIN, Tissue.FAT, Tissue.AIR)).mean() < 0.01
    assert (subject.tissues[~subject.brain] == Tissue.WHITE).mean() < 0.002
    assert subject.lesion.any() and (subject.brain & subject.lesion).sum() > 0.95 * subject.lesion.sum()


@pytest.mark.parametrize("field_tesla", [1.5, 3.0])
def test_parameters_are_those_of_the_tissues(subject: Subject, field_tesla: float) -> None:
    maps, mean = subject.parameters(field_tesla), tissue_table(field_tesla)
    for tissue in (Tissue.WHITE, Tissue.GREY, Tissue.CSF, Tissue.NECROSIS):
        where = subject.tissues == tissue
        for measured, expected in (
            (maps.t1, mean.t1), (maps.t2, mean.t2), (maps.density, mean.density), (maps.adc, mean.adc),
        ):  # fmt: skip
            ratio = float(np.median(measured[where])) / float(expected[tissue])
            assert abs(ratio - 1) < SUBJECT_SPREAD + 0.02, tissue.name
    assert np.isfinite(maps.t1).all() and (maps.t1 > 0).all() and (maps.adc >= 0).all()


def test_contrast_goes_where_the_barrier_leaks(subject: Subject) -> None:
    agent = subject.concentration(5.0, GIVEN)
    table = concentrations(5.0, GIVEN)
    assert agent[subject.tissues == Tissue.CSF].max() == 0
    veins = subject.tissues == Tissue.VEIN
    assert np.allclose(agent[veins], table[Tissue.VEIN])
    rim = agent[subject.tissues == Tissue.RIM]
    assert 0.1 < rim.mean() < 0.35 and rim.std() > 0.005
    assert 0.005 < np.median(agent[subject.tissues == Tissue.WHITE]) < 0.02


def test_unknown_fields_and_empty_folders_are_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no relaxation times for 7 T; choose 1.5 or 3"):
        subject.parameters(7.0)
    with pytest.raises(AnatomyError, match="none to use ICBM 152"):
        simulate_subject(1, tmp_path)
