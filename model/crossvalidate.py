"""Cross-validation whose every trained fold and every judged subject is kept, shared and never computed twice.

A run lives in ``runs/<key>``: the key is a digest of the training subjects (names, arrays, inputs), of all settings,
and of the code that decides the numbers. The same fold in ``validate``, ``ablate`` and ``scale`` is one folder; a
killed command goes on from its checkpoint and its judged subjects. Processes that do the same at the same time, as
``torchrun`` starts them, share the folds: each takes those that nobody else is at.

    run.json                  what the key was made from, and the precision it was computed in, to be read
    claim.lock                held by the process that trains and judges (``model.claim``)
    checkpoint.pt             the training (``model.train``)
    judged-<key>/<name>.json  a test subject's figures; its key also covers the judging code and the fold
    judged-<key>/<name>.npy   the virtual image, float16, of the subjects that are drawn
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import model
from model.claim import claimed
from model.cohort import Cohort, SubjectRecord
from model.contenders import Contender, Predictor, Told, key_of
from model.folds import Fold, folds, part
from model.judge import Judgement, detection_level, judge, t1_of
from model.train import TrainingProgress, computed_in

LEARNING = (
    "network", "rival_networks", "losses", "intensity", "sampling", "resident", "precision", "training_settings",
    "train", "rivals",
)  # fmt: skip
JUDGING = (
    "metrics", "detection", "radiology", "calibration", "judge", "synthesise", "fast_pass", "contenders", "ensemble",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How a cohort is cross-validated. ``runs`` is where folds are kept, ``drawn`` the subjects whose virtual images
    are kept as well."""

    cohort: Cohort
    runs: Path
    folds: int = 5
    seed: int = 0
    fraction: float = 1.0
    drawn: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Happening:
    """Told while it lasts: ``what`` is going on in fold ``fold`` of ``folds``; ``share`` of it is done (0 … 1)."""

    contender: str
    fold: int
    folds: int
    what: str
    share: float


@dataclass(frozen=True)
class CrossValidation:
    """What came of one contender: for each fold the judgements of its test subjects, and where its run lies."""

    contender: Contender
    folds: tuple[tuple[Judgement, ...], ...]
    runs: tuple[Path, ...]

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """Every subject once, each judged by the fold that had not seen it."""
        return tuple(sorted((one for fold in self.folds for one in fold), key=lambda one: one.subject))


@dataclass(frozen=True)
class _Task:
    """One fold of one contender: what one process trains and judges in one go."""

    plan: Plan
    contender: Contender
    fold: Fold

    @cached_property
    def train_set(self) -> Cohort:
        return part(self.fold.train, self.plan.fraction, self.plan.seed).with_roles(self.contender.roles)

    @cached_property
    def run(self) -> Path:
        return self.plan.runs / key_of(self.train_set.digest, self.contender.identity, code_digest(LEARNING))


def cross_validate(
    studies: Sequence[tuple[Plan, Contender]], told: Callable[[Happening], None]
) -> tuple[CrossValidation, ...]:
    """Train and judge whatever is not there yet, in the order given, leaving out what another process is at; then wait
    for those, and go on where one died. All processes return the same. Raises CohortError, TrainingError or
    ValueError."""
    tasks = [
        [_Task(plan, contender, fold) for fold in folds(plan.cohort, plan.folds, plan.seed)]
        for plan, contender in studies
    ]
    every = [task for one in tasks for task in one]
    for task in every:
        _ = task.run  # what cannot be done for want of inputs or subjects is said now, not after hours with others
    _work_off(every, told)
    return tuple(
        CrossValidation(contender, tuple(_judged(task) for task in one), tuple(task.run for task in one))
        for (_, contender), one in zip(studies, tasks, strict=True)
    )


def _work_off(tasks: Sequence[_Task], told: Callable[[Happening], None]) -> None:
    elsewhere = []
    for task in tasks:
        task.run.mkdir(parents=True, exist_ok=True)
        with claimed(task.run, wait=False) as ours:
            if ours:
                _finish(task, told)
            else:
                elsewhere.append(task)
    for task in elsewhere:
        told(Happening(task.contender.name, task.fold.number, task.plan.folds, "another process is at it", 0.0))
        with claimed(task.run, wait=True):
            _finish(task, told)  # it is done, unless that process died


def judged_folder(run: Path, fold: Fold) -> Path:
    """Where the figures of a run's test subjects lie."""
    parts = (fold.train.whole.digest, fold.test.whole.digest, str(fold.test.voxel_mm), code_digest(JUDGING))
    return run / f"judged-{key_of(*parts)}"


@cache
def code_digest(modules: tuple[str, ...]) -> str:
    """A digest of what the modules do: comments and layout do not enter, any other change does."""
    told = hashlib.sha256()
    for name in modules:
        source = (Path(model.__file__).parent / f"{name}.py").read_text()
        told.update(ast.dump(ast.parse(source)).encode())
    return told.hexdigest()


def _finish(task: _Task, told: Callable[[Happening], None]) -> None:
    def say(what: str, share: float) -> None:
        told(Happening(task.contender.name, task.fold.number, task.plan.folds, what, share))

    folder = judged_folder(task.run, task.fold)
    folder.mkdir(exist_ok=True)
    missing = [record for record in task.fold.test.subjects if not _is_there(task.plan, folder, record)]
    if missing:
        _describe(task, computed=())
        learning: Told = lambda progress: say(_learning(progress), progress.step / progress.steps)  # noqa: E731
        predict = task.contender.fit(task.train_set, task.run, learning)
        _describe(task, computed_in(task.run))
        for done, record in enumerate(missing):
            say(f"judging {record.name}", done / len(missing))
            _judge_subject(task, record, predict, folder)
    say("done", 1.0)


def _is_there(plan: Plan, folder: Path, record: SubjectRecord) -> bool:
    """Its figures, and the picture where one is drawn; a file that a power cut has emptied is made again."""
    try:
        Judgement.read(folder / f"{record.name}.json")
    except (FileNotFoundError, ValueError):
        return False
    return record.name not in plan.drawn or (folder / f"{record.name}.npy").exists()


def _describe(task: _Task, computed: tuple[str, ...]) -> None:
    train_set = task.train_set
    about = {
        "contender": task.contender.name, "identity": task.contender.identity, "cohort": train_set.digest,
        "code": code_digest(LEARNING), "roles": list(train_set.roles),
        "subjects": [record.name for record in train_set.subjects], "computed_in": computed,
    }  # fmt: skip
    (task.run / "run.json").write_text(json.dumps(about, indent=1) + "\n")


def _judge_subject(task: _Task, record: SubjectRecord, predict: Predictor, folder: Path) -> None:
    whole = task.fold.test.whole
    subject = whole.read(record)
    seen = whole.with_roles(task.contender.roles).read(record)
    virtual, uncertainty = predict(seen.input.astype(np.float32), np.asarray(subject.brain))
    level = detection_level(task.fold.train.whole)
    result = judge(record.name, subject, t1_of(whole, subject), (virtual, uncertainty), level, whole.voxel_mm)
    if record.name in task.plan.drawn:
        _keep(folder / f"{record.name}.npy", np.where(subject.brain, virtual, 0).astype(np.float16))
    result.write(folder / f"{record.name}.json")


def _keep(path: Path, picture: NDArray[np.float16]) -> None:
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        np.save(file, picture, allow_pickle=False)
    draft.replace(path)


def _judged(task: _Task) -> tuple[Judgement, ...]:
    folder = judged_folder(task.run, task.fold)
    return tuple(Judgement.read(folder / f"{record.name}.json") for record in task.fold.test.subjects)


def _learning(progress: TrainingProgress) -> str:
    return f"step {progress.step} of {progress.steps}, loss {progress.loss:.2e}"
