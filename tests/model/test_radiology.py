"""Contrast and volume of lesions, by hand."""

import math

import numpy as np
import pytest

from model.radiology import appearance, distance_to, volumes
from preprocessing.normalise import IntensityScale
from preprocessing.volume import Role

from .test_detection import LARGE, SHAPE

BRAIN = np.ones(SHAPE, bool)
SCALES = {Role.T1: IntensityScale(100.0, 20.0), Role.FULL_DOSE: IntensityScale(120.0, 30.0)}


def pair():
    """T1 of 100 everywhere; the full dose is 240 in the lesion and 110 or 130 around it."""
    t1 = np.full(SHAPE, 100.0)
    around = np.where(np.indices(SHAPE).sum(axis=0) % 2, 110.0, 130.0)
    full_dose = np.where(LARGE, 240.0, around)
    return SCALES[Role.FULL_DOSE].to_unit(full_dose), SCALES[Role.T1].to_unit(t1)


def test_by_hand():
    full_dose, t1 = pair()
    looks = appearance(full_dose, t1, LARGE, BRAIN, SCALES, 1.0)
    assert looks.cnr == pytest.approx((240 - 120) / 10, rel=0.02)
    assert looks.lbr == pytest.approx(240 / 120, rel=0.01)
    assert looks.cep == pytest.approx(140, rel=0.01)


def test_without_scales_only_what_needs_no_units():
    full_dose, t1 = pair()
    looks = appearance(full_dose, t1, LARGE, BRAIN, None, 1.0)
    assert looks.cnr == pytest.approx(12, rel=0.02)
    assert math.isnan(looks.lbr)
    assert math.isnan(looks.cep)


def test_cnr_is_the_same_on_any_scale():
    full_dose, t1 = pair()
    assert appearance(0.3 * full_dose + 0.1, t1, LARGE, BRAIN, None, 1.0).cnr == pytest.approx(
        appearance(full_dose, t1, LARGE, BRAIN, None, 1.0).cnr, rel=1e-4
    )


def test_volumes_by_hand_and_in_millilitres():
    half = LARGE & (np.indices(SHAPE)[0] < 35)
    sizes = volumes(half, LARGE, LARGE, 2.0)
    assert sizes.full_dose_ml == pytest.approx(LARGE.sum() * 8 / 1000)
    assert sizes.virtual_ml == pytest.approx(half.sum() * 8 / 1000)
    assert sizes.dice == pytest.approx(2 * half.sum() / (half.sum() + LARGE.sum()))


def test_enhancement_far_from_the_lesion_is_not_its_volume():
    far = LARGE | (distance_to(LARGE, 1.0) > 4)
    assert volumes(far, LARGE, LARGE, 1.0).virtual_ml == pytest.approx(LARGE.sum() / 1000)


def test_without_a_lesion_there_is_nothing_to_say():
    none = np.zeros(SHAPE, bool)
    assert math.isnan(appearance(*pair(), none, BRAIN, SCALES, 1.0).cnr)
    assert math.isnan(volumes(LARGE, LARGE, none, 1.0).virtual_ml)
