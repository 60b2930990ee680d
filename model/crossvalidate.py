"""Cross-validation whose every trained fold and every judged subject is kept, shared and never computed twice.

A run lives in ``runs/<key>``: the key is a digest of the training subjects (names, arrays, inputs), of all settings,
and of the code that decides the numbers. The same fold in ``validate``, ``ablate`` and ``scale`` is one folder; a
killed command goes on from its checkpoint and its judged subjects.

    run.json                  what the key was made from, to be read
    checkpoint.pt             the training (``model.train``)
    judged-<key>/<name>.json  a test subject's figures; its key also covers the judging code and the fold
    judged-<key>/<name>.npy   the virtual image, float16, of the subjects that are drawn
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import model
from model.cohort import Cohort, SubjectRecord
from model.contenders import Contender, Predictor, Told, key_of
from model.folds import Fold, folds, part
from model.judge import Judgement, detection_level, judge, t1_of
from model.train import TrainingProgress

LEARNING = ("network", "rival_networks", "losses", "intensity", "sampling", "train", "rivals")
JUDGING = ("metrics", "detection", "radiology", "calibration", "judge", "synthesise", "contenders")


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


def cross_validate(
    plan: Plan, contender: Contender, told: Callable[[Happening], None] = lambda happening: None
) -> CrossValidation:
    """Train and judge whatever is not there yet. Raises CohortError, TrainingError or ValueError."""
    judged, runs = [], []
    for fold in folds(plan.cohort, plan.folds, plan.seed):
        train_set = part(fold.train, plan.fraction, plan.seed).with_roles(contender.roles)
        run = _run_folder(plan.runs, train_set, contender)

        def say(what: str, share: float, number: int = fold.number) -> None:
            told(Happening(contender.name, number, plan.folds, what, share))

        judged.append(_judge_fold(plan, contender, fold, train_set, run, say))
        runs.append(run)
    return CrossValidation(contender, tuple(judged), tuple(runs))


def judged_folder(run: Path, fold: Fold) -> Path:
    """Where the figures of a run's test subjects lie."""
    whole = fold.train.with_roles(fold.train.stored_roles)
    return run / f"judged-{key_of(whole.digest, str(fold.test.voxel_mm), code_digest(JUDGING))}"


def code_digest(modules: tuple[str, ...]) -> str:
    """A digest of what the modules do: comments and layout do not enter, any other change does."""
    told = hashlib.sha256()
    for name in modules:
        source = (Path(model.__file__).parent / f"{name}.py").read_text()
        told.update(ast.dump(ast.parse(source)).encode())
    return told.hexdigest()


def _run_folder(runs: Path, train_set: Cohort, contender: Contender) -> Path:
    code = code_digest(LEARNING)
    run = runs / key_of(train_set.digest, contender.identity, code)
    run.mkdir(parents=True, exist_ok=True)
    about = {
        "contender": contender.name, "identity": contender.identity, "cohort": train_set.digest, "code": code,
        "roles": list(contender.roles), "subjects": [record.name for record in train_set.subjects],
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    return run


def _judge_fold(
    plan: Plan, contender: Contender, fold: Fold, train_set: Cohort, run: Path, say: Callable[[str, float], None]
) -> tuple[Judgement, ...]:
    folder = judged_folder(run, fold)
    folder.mkdir(exist_ok=True)

    def there(record: SubjectRecord) -> bool:
        drawn = record.name not in plan.drawn or (folder / f"{record.name}.npy").exists()
        return drawn and (folder / f"{record.name}.json").exists()

    if not all(there(record) for record in fold.test.subjects):
        learning: Told = lambda progress: say(_learning(progress), progress.step / progress.steps)  # noqa: E731
        predict = contender.fit(train_set, run, learning)
        for done, record in enumerate(fold.test.subjects):
            say(f"judging {record.name}", done / len(fold.test.subjects))
            if not there(record):
                _judge_subject(plan, contender, fold, record, predict, folder)
    say("done", 1.0)
    return tuple(Judgement.read(folder / f"{record.name}.json") for record in fold.test.subjects)


def _judge_subject(
    plan: Plan, contender: Contender, fold: Fold, record: SubjectRecord, predict: Predictor, folder: Path
) -> None:
    whole = fold.test.with_roles(fold.test.stored_roles)
    subject = whole.read(record)
    seen = replace(whole, roles=contender.roles).read(record)
    virtual, uncertainty = predict(seen.input.astype(np.float32), np.asarray(subject.brain))
    level = detection_level(fold.train.with_roles(fold.train.stored_roles))
    result = judge(record.name, subject, t1_of(whole, subject), (virtual, uncertainty), level, whole.voxel_mm)
    if record.name in plan.drawn:
        picture = np.where(subject.brain, virtual, 0).astype(np.float16)
        np.save(folder / f"{record.name}.npy", picture, allow_pickle=False)
    result.write(folder / f"{record.name}.json")


def _learning(progress: TrainingProgress) -> str:
    return f"step {progress.step} of {progress.steps}, loss {progress.loss:.2e}"
