"""Everything that is measured on one subject's virtual image, in one record that a file can hold."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from model.calibration import Reliability, reliability
from model.cohort import Cohort, Subject
from model.detection import Detection, detect, enhancement, enhancing, fit_level
from model.metrics import Scores, score
from model.radiology import Appearance, Volumes, appearance, volumes
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """``grid`` and ``brain``: the paper's four figures over both domains (``model.metrics``); ``detection`` is None
    where the cohort has no T1 or the training subjects no lesion, ``reliability`` where the method tells no
    uncertainty."""

    subject: str
    grid: Scores
    brain: Scores
    detection: Detection | None
    virtual: Appearance
    full_dose: Appearance
    volumes: Volumes
    reliability: Reliability | None

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Judgement:
        """What ``write`` wrote."""
        return _ADAPTER.validate_python(json.loads(path.read_text()))


_ADAPTER = TypeAdapter(Judgement)


def judge(
    name: str,
    subject: Subject,
    t1: FloatArray | None,
    answer: tuple[FloatArray, FloatArray | None],
    level: float,
    voxel_mm: float,
) -> Judgement:
    """Measure ``answer``, the virtual full dose and its uncertainty or None, against ``subject``; all (z, y, x).
    ``level`` is from ``detection_level``. Outside the brain the virtual image counts as the zero that is delivered."""
    brain, lesion = np.asarray(subject.brain), np.asarray(subject.lesion)
    target = subject.target.astype(np.float32)
    virtual = np.where(brain, answer[0], np.float32(0))
    grid, inside = score(virtual, target, lesion), score(virtual, target, lesion, brain)
    told = None if answer[1] is None else reliability(virtual, target, answer[1], brain)
    none = Appearance(math.nan, math.nan, math.nan)
    if t1 is None or math.isnan(level):
        return Judgement(name, grid, inside, None, none, none, Volumes(math.nan, math.nan, math.nan), told)
    ours, true = (enhancing(enhancement(image, t1, brain), brain, level) for image in (virtual, target))
    looks = [appearance(image, t1, lesion, brain, subject.scales, voxel_mm) for image in (virtual, target)]
    return Judgement(
        name, grid, inside, detect(ours, true, lesion, voxel_mm), looks[0], looks[1],
        volumes(ours, true, lesion, voxel_mm), told,
    )  # fmt: skip


def t1_of(cohort: Cohort, subject: Subject) -> FloatArray | None:
    """The T1 of a subject read through all stored roles, None for a cohort without."""
    if Role.T1 not in cohort.stored_roles:
        return None
    t1: FloatArray = subject.input[cohort.stored_roles.index(Role.T1)].astype(np.float32)
    return t1


@lru_cache(maxsize=32)
def detection_level(train_set: Cohort) -> float:
    """The level above which a voxel enhances, from the full dose of the training subjects (``model.detection``); NaN
    for a cohort without T1 or without lesions."""
    whole = train_set.whole
    if Role.T1 not in whole.stored_roles:
        return math.nan

    def full_dose(subject: Subject) -> FloatArray:
        t1 = t1_of(whole, subject)
        assert t1 is not None  # noqa: S101  # for the type checker: asked above
        return enhancement(subject.target.astype(np.float32), t1, np.asarray(subject.brain))

    subjects = (whole.read(record) for record in whole.subjects)
    return fit_level((full_dose(subject), np.asarray(subject.lesion)) for subject in subjects)
