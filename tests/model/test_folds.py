"""No head and no patient is on both sides of a fold, and smaller parts lie within larger ones."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.cohort import Cohort, CohortError, SubjectRecord
from model.folds import Fold, folds, part

from .tiny import ROLES

PEOPLE = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 12)), min_size=6, max_size=30)


def cohort_of(people, letter="s"):
    records = tuple(
        SubjectRecord(f"{letter}{place:02d}", f"head_{head}", "", f"patient_{patient}")
        for place, (head, patient) in enumerate(people)
    )
    return Cohort(Path("nowhere"), ROLES, ROLES, records)


def names(cohort):
    return {record.name for record in cohort.subjects}


@given(PEOPLE, st.integers(2, 5), st.integers(0, 3))
def test_everybody_is_tested_once_and_nobody_related_is_trained_on(people, count, seed):
    cohort = cohort_of(people)
    try:
        made = folds(cohort, count, seed)
    except CohortError:
        return
    assert sorted(name for fold in made for name in names(fold.test)) == sorted(names(cohort))
    for fold in made:
        assert names(fold.train) | names(fold.test) == names(cohort)
        assert fold.test.subjects
        for key in ("anatomy", "patient"):
            assert not {getattr(r, key) for r in fold.train.subjects} & {getattr(r, key) for r in fold.test.subjects}


def test_unrelated_subjects_make_folds_of_one_size():
    cohort = cohort_of([(place, place) for place in range(105)])
    assert [len(fold.test.subjects) for fold in folds(cohort, 5)] == [21] * 5
    assert [len(fold.train.subjects) for fold in folds(cohort, 5)] == [84] * 5  # as in the paper
    assert names(folds(cohort, 5, seed=1)[0].test) != names(folds(cohort, 5)[0].test)


@pytest.mark.parametrize(
    ("trained", "judged", "complaint"),
    [
        ([(0, 0), (1, 1)], [(1, 2)], "j00 cannot be judged by a network that learned from t01"),
        ([(0, 0), (1, 1)], [(2, 2), (3, 0)], "j01 cannot be judged by a network that learned from t00"),
        ([(0, 0), (1, 1), (2, 1)], [(2, 5), (3, 3)], "j00 cannot be judged by a network that learned from t01, t02"),
    ],
)
def test_nobody_is_judged_who_was_learned_from(trained, judged, complaint):
    with pytest.raises(CohortError, match=complaint):
        Fold(1, cohort_of(trained, "t"), cohort_of(judged, "j"))


def test_the_same_subject_on_both_sides_is_refused():
    cohort = cohort_of([(0, 0), (1, 1)])
    with pytest.raises(CohortError, match="s00 cannot be judged by a network that learned from s00"):
        Fold(1, cohort, cohort)


def test_too_few_heads_are_said():
    with pytest.raises(CohortError, match="3 folds need as many unrelated heads"):
        folds(cohort_of([(0, 0), (0, 1), (1, 2), (1, 3)]), 3)


@given(st.integers(1, 40), st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.integers(0, 3))
def test_parts_are_nested_and_keep_the_order(count, fractions, seed):
    cohort = cohort_of([(place, place) for place in range(count)])
    parts = [part(cohort, fraction, seed) for fraction in sorted(fractions)]
    for smaller, larger in pairwise(parts):
        assert names(smaller) <= names(larger)
    assert all(list(one.subjects) == sorted(one.subjects, key=lambda r: r.name) for one in parts)
    assert part(cohort, 1.0, seed) == cohort


def test_a_quarter_of_84_is_21_and_nothing_is_refused():
    cohort = cohort_of([(place, place) for place in range(84)])
    assert [len(part(cohort, fraction).subjects) for fraction in (0.25, 0.5, 0.75, 1)] == [21, 42, 63, 84]
    with pytest.raises(ValueError, match="above 0"):
        part(cohort, 0)
