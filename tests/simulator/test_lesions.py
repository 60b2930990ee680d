"""Lesions: each condition leaves what it should, where it should."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.lesion_shapes import Place, lump
from simulator.lesions import Condition, LesionSettings, Painter, parse_proportions
from simulator.randomness import stream
from simulator.subject import Subject
from simulator.tissue import ENHANCING_LESION, Tissue

ENHANCES = {
    Condition.METASTASES: True, Condition.GLIOBLASTOMA: True, Condition.MENINGIOMA: True, Condition.LOW_GRADE: False,
    Condition.WHITE_MATTER_LESIONS: False, Condition.HAEMORRHAGE: False, Condition.NONE: False,
}  # fmt: skip
LEAVES = {
    Condition.GLIOBLASTOMA: (Tissue.RIM, Tissue.NECROSIS, Tissue.OEDEMA), Condition.LOW_GRADE: (Tissue.LOW_GRADE,),
    Condition.MENINGIOMA: (Tissue.MENINGIOMA,), Condition.WHITE_MATTER_LESIONS: (Tissue.WHITE_LESION,),
    Condition.HAEMORRHAGE: (Tissue.HAEMORRHAGE,), Condition.RESECTED: (Tissue.CAVITY,),
}  # fmt: skip
DISEASE = (*ENHANCING_LESION, Tissue.OEDEMA, Tissue.NECROSIS, Tissue.LOW_GRADE, Tissue.CAVITY, Tissue.HAEMORRHAGE)


@pytest.fixture(scope="module")
def healthy(subject: Subject) -> np.ndarray:
    """The shared patient before the disease, nearly: every lesion painted back to white matter."""
    labels = subject.tissues.copy()
    labels[np.isin(labels, (*DISEASE, Tissue.WHITE_LESION))] = Tissue.WHITE
    return labels


@pytest.mark.parametrize("condition", Condition)
def test_a_condition_leaves_its_tissues_inside_the_brain(
    condition: Condition, subject: Subject, healthy: np.ndarray
) -> None:
    labels = healthy.copy()
    painter = Painter(labels, subject.brain, np.zeros_like(subject.brain), stream(2, condition))
    painter.paint(condition)
    for tissue in LEAVES.get(condition, ()):
        assert (labels == tissue).sum() > 5, tissue.name
    enhancing = np.isin(labels, ENHANCING_LESION)
    if condition in ENHANCES:
        assert enhancing.any() == ENHANCES[condition]
    assert (labels != healthy).sum() == 0 if condition is Condition.NONE else (labels != healthy).any()
    if condition is not Condition.MENINGIOMA:
        assert not (np.isin(labels, DISEASE) & ~subject.brain).any()
    listed = np.concatenate([lesion.voxels for lesion in painter.lesions] or [np.zeros(0, dtype=np.int64)])
    assert set(np.flatnonzero(enhancing)) <= set(listed.tolist())


def test_a_smooth_lump_has_the_volume_of_its_radius() -> None:
    shape = lump(stream(5, "lump"), (80, 80, 80), Place((40, 40, 40), 10.0), 0.0)
    volume = int((shape.depth < 1).sum())
    assert 0.5 < volume / (4 / 3 * np.pi * 10**3) < 2.0
    assert np.unravel_index(shape.depth.argmin(), shape.depth.shape) == tuple(40 - b.start for b in shape.box)


def test_a_lump_at_the_edge_of_the_map_is_cut_off() -> None:
    shape = lump(stream(5, "lump"), (30, 30, 30), Place((2, 28, 15), 8.0), 0.2)
    assert shape.depth.shape == tuple(b.stop - b.start for b in shape.box)
    assert shape.box[0].start == 0 and shape.box[1].stop == 30


def test_conditions_are_drawn_in_proportion() -> None:
    settings = LesionSettings({Condition.NONE: 3.0, Condition.MENINGIOMA: 1.0})
    rng = stream(1, "conditions")
    drawn = [settings.draw(rng) for _ in range(400)]
    assert 0.68 < drawn.count(Condition.NONE) / 400 < 0.82
    assert set(drawn) == {Condition.NONE, Condition.MENINGIOMA}
    with pytest.raises(ValueError, match="at least one must be positive"):
        LesionSettings({Condition.NONE: 0.0})


def test_proportions_are_written_in_any_order() -> None:
    settings = parse_proportions("none=1, metastases=3")
    assert list(settings.proportions.items()) == [(Condition.METASTASES, 3.0), (Condition.NONE, 1.0)]
    assert {settings.draw(stream(n, "condition")) for n in range(20)} == {Condition.METASTASES, Condition.NONE}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stroke=1", "condition 'stroke' is not known; choose from metastases, glioblastoma, resected"),
        ("", "condition '' is not known"),
        ("none", "are written metastases=0.5,none=0.5; got 'none'"),
        ("none=half", "got 'none=half'"),
        ("none=-1,resected=2", "must not be negative"),
        ("none=nan", "must not be negative"),
        ("none=0", "at least one must be positive"),
    ],
)
def test_what_is_no_proportion_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_proportions(text)
