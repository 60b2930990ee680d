"""From a trained network to a model folder that a node can use: judged on who was held out, with its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import ModelCard
from model.cohort import Cohort, Mask
from model.contenders import Linear, Nothing, Predictor, Trained
from model.crossvalidate import LEARNING, Happening, Plan, code_digest, cross_validate
from model.evaluate import Result, evaluate
from model.folds import folds
from model.network import SynthesisNetwork
from model.rivals import fit_extrapolation
from model.store import write_weights
from model.train import TrainingSettings, train
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]
LIMITS = (
    "For research, not a medical device. A lesion that the low dose does not show cannot be seen in the virtual image.",
    "Inputs must be prepared as `preprocessing/` does: MNI152 grid, brain-masked, normalised by brain statistics.",
)
COARSE = "Trained on voxels of {:g} mm: a rehearsal, not for the node's 1 mm grid."
UNJUDGED = "Nobody was held out: how good it is on heads that it never saw is not known."


def write_model(folder: Path, run: Path, train_set: Cohort, test_set: Cohort, settings: TrainingSettings) -> ModelCard:
    """Write the finished training in ``run`` as a model folder, judged on ``test_set`` where that has subjects. Raises
    ValueError for a rival's architecture, which the node does not run."""
    network = train(train_set, settings, run)  # finished: this reads its checkpoint
    if not isinstance(network, SynthesisNetwork):
        raise ValueError(f"a model folder holds the paper's network, not {settings.architecture}'s")
    digest = write_weights(folder, network, settings.roles, shared_scale=settings.shared_scale)
    results = _judged(train_set, test_set, settings, run) if test_set.subjects else ()
    coarse = (COARSE.format(train_set.voxel_mm),) if train_set.voxel_mm != 1 else ()
    card = ModelCard(
        name=folder.name,
        summary=f"C = {settings.channels} for {', '.join(settings.roles)}, from {len(train_set.subjects)} subjects.",
        weights_sha256=digest,
        cohort_digest=train_set.digest,
        commit=f"quarterdose {version('quarterdose')}, learning code {code_digest(LEARNING)[:12]}",
        command="quarterdose train",
        training=described(settings),
        results=results,
        limits=(*LIMITS, *coarse, *(() if test_set.subjects else (UNJUDGED,))),
    )
    card.write(folder)
    return card


def write_folds(
    folder: Path, plan: Plan, settings: TrainingSettings, told: Callable[[Happening], None]
) -> tuple[ModelCard, ...]:
    """The paper's network of every fold of ``plan`` as a model folder in ``folder``, ``fold_1`` and so on, trained
    where it is not yet, its card from the subjects of its fold: an ensemble for ``model.ensemble``."""
    trained = cross_validate(plan, Trained("the paper", settings), told)
    return tuple(
        write_model(folder / f"fold_{fold.number}", run, fold.train.with_roles(settings.roles), fold.test, settings)
        for fold, run in zip(folds(plan.cohort, plan.folds, plan.seed), trained.runs, strict=True)
    )


def described(settings: TrainingSettings) -> tuple[str, ...]:
    """The settings, one line each."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return tuple(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}" for name, value in values)


def _judged(train_set: Cohort, test_set: Cohort, settings: TrainingSettings, run: Path) -> tuple[Result, ...]:
    methods: list[Trained | Nothing | Linear] = [Trained("this network", settings)]
    if {Role.T1, Role.LOW_DOSE} <= set(test_set.stored_roles):
        k = fit_extrapolation(train_set.with_roles((Role.T1, Role.LOW_DOSE)))
        methods += [Nothing(), Linear(f"T1 + {k:.2f}·(low dose − T1), fitted", k)]
    results = []
    for method in methods:
        predict = method.fit(train_set.with_roles(method.roles), run, lambda progress: None)
        results.append(evaluate(method.name, partial(_virtual, predict), test_set.with_roles(method.roles)))
    return tuple(results)


def _virtual(predict: Predictor, inputs: FloatArray, brain: Mask) -> FloatArray:
    return predict(inputs, brain)[0]
