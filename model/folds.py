"""Which subjects are held out together (paper, section 2: "5-fold cross-validation"), and nested parts of the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.cohort import Cohort, CohortError, SubjectRecord


@dataclass(frozen=True)
class Fold:
    """The ``number``-th of the folds, counted from 1: who is trained on and who is held out. Raises CohortError where
    a subject would be judged whose head or patient is trained on."""

    number: int
    train: Cohort
    test: Cohort

    def __post_init__(self) -> None:
        learned, judged = ({record.name for record in part.subjects} for part in (self.train, self.test))
        for group in groups_of((*self.train.subjects, *self.test.subjects)):
            if group & learned and group & judged:
                raise CohortError(
                    f"{', '.join(sorted(group & judged))} cannot be judged by a network that learned from "
                    f"{', '.join(sorted(group & learned))}, the same head or patient: hold out all of them"
                )


def folds(cohort: Cohort, count: int, seed: int = 0) -> tuple[Fold, ...]:
    """``count`` folds of nearly the same size. Subjects that share an anatomy or a patient are held out together, so
    that no head is ever seen in training and in testing. Raises CohortError for fewer such groups than folds."""
    groups = groups_of(cohort.subjects)
    if not 2 <= count <= len(groups):
        raise CohortError(f"{count} folds need as many unrelated heads; {cohort.folder} has {len(groups)}")
    order = np.random.default_rng((seed, 2)).permutation(len(groups))
    held: list[set[str]] = [set() for _ in range(count)]
    for group in sorted((groups[place] for place in order), key=len, reverse=True):
        min(held, key=len).update(group)
    return tuple(
        Fold(
            number,
            replace(cohort, subjects=tuple(one for one in cohort.subjects if one.name not in names)),
            replace(cohort, subjects=tuple(one for one in cohort.subjects if one.name in names)),
        )
        for number, names in enumerate(held, start=1)
    )


def part(cohort: Cohort, fraction: float, seed: int = 0) -> Cohort:
    """The paper's F: a ``fraction`` of the subjects, at least one, each smaller part within every larger one."""
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction must be above 0 and at most 1, not {fraction}")
    order = np.random.default_rng((seed, 3)).permutation(len(cohort.subjects))
    chosen = set(order[: max(1, math.floor(fraction * len(cohort.subjects) + 0.5))].tolist())
    return replace(cohort, subjects=tuple(one for place, one in enumerate(cohort.subjects) if place in chosen))


def groups_of(subjects: Sequence[SubjectRecord]) -> list[set[str]]:
    """Names of subjects that share an anatomy or a patient, directly or through others: each of them in one group."""
    linked: dict[str, set[str]] = {}
    for key in ("anatomy", "patient"):
        shared: dict[str, set[str]] = defaultdict(set)
        for record in subjects:
            shared[getattr(record, key) or record.name].add(record.name)
        for names in shared.values():
            group = set().union(*(linked.get(name, {name}) for name in names))
            linked.update(dict.fromkeys(group, group))
    distinct = {id(group): group for group in linked.values()}
    return sorted(distinct.values(), key=min)
