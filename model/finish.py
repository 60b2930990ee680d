"""From a trained network to a model folder that a node can use: judged on who was held out, with its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import ModelCard
from model.cohort import Mask
from model.contenders import PAIR, Linear, Nothing, Predictor, Trained
from model.crossvalidate import LEARNING, Plan, code_digest
from model.evaluate import Result, evaluate
from model.folds import Fold, folds
from model.network import SynthesisNetwork
from model.rivals import fit_extrapolation
from model.store import model_folders, write_weights
from model.train import computed_in, train
from model.training_settings import TrainingSettings

FloatArray = NDArray[np.float32]
LIMITS = (
    "For research, not a medical device. A lesion that the low dose does not show cannot be seen in the virtual image.",
    "Inputs must be prepared as `preprocessing/` does: MNI152 grid, brain-masked, normalised by brain statistics.",
)
COARSE = "Trained on voxels of {:g} mm: a rehearsal, not for the node's 1 mm grid."
UNJUDGED = "Nobody was held out: how good it is on heads that it never saw is not known."


def write_model(folder: Path, run: Path, fold: Fold, settings: TrainingSettings) -> ModelCard:
    """Write the finished training in ``run`` as a model folder, judged on those that ``fold`` holds out, if any. Raises
    ValueError for a rival's architecture, which the node does not run."""
    network = train(fold.train, settings, run)  # finished: this reads its checkpoint
    if not isinstance(network, SynthesisNetwork):
        raise ValueError(f"a model folder holds the paper's network, not {settings.architecture}'s")
    digest = write_weights(folder, network, settings.roles, shared_scale=settings.shared_scale)
    results = _judged(fold, settings, run) if fold.test.subjects else ()
    coarse = (COARSE.format(fold.train.voxel_mm),) if fold.train.voxel_mm != 1 else ()
    card = ModelCard(
        name=folder.name,
        summary=f"C = {settings.channels} for {', '.join(settings.roles)}, from {len(fold.train.subjects)} subjects.",
        weights_sha256=digest,
        cohort_digest=fold.train.digest,
        commit=f"quarterdose {version('quarterdose')}, learning code {code_digest(LEARNING)[:12]}",
        command="quarterdose train",
        training=(*described(settings), f"computed in: {', '.join(computed_in(run))}"),
        results=results,
        limits=(*LIMITS, *coarse, *(() if fold.test.subjects else (UNJUDGED,))),
    )
    card.write(folder)
    return card


def write_folds(
    folder: Path, plan: Plan, settings: TrainingSettings, runs: Sequence[Path]
) -> tuple[ModelCard, ...]:
    """The network of every fold of ``plan``, trained in ``runs``, as a model folder in ``folder``, ``fold_1`` and so
    on, its card from the subjects of its fold: an ensemble for ``model.ensemble``. Raises ValueError where other models
    are in ``folder``, which would answer with them."""
    places = {folder / f"fold_{fold.number}": fold for fold in folds(plan.cohort, plan.folds, plan.seed)}
    others = [place.name for place in model_folders(folder) if place not in places]
    if others:
        raise ValueError(f"{folder} holds other models ({', '.join(others)}): delete them, or name another folder")
    return tuple(
        write_model(place, run, fold, settings) for (place, fold), run in zip(places.items(), runs, strict=True)
    )


def described(settings: TrainingSettings) -> tuple[str, ...]:
    """The settings, one line each."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return tuple(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}" for name, value in values)


def _judged(fold: Fold, settings: TrainingSettings, run: Path) -> tuple[Result, ...]:
    methods: list[Trained | Nothing | Linear] = [Trained("this network", settings)]
    if set(PAIR) <= set(fold.test.stored_roles):
        k = fit_extrapolation(fold.train.with_roles(PAIR))
        methods += [Nothing(), Linear(f"T1 + {k:.2f}·(low dose − T1), fitted", k)]
    results = []
    for method in methods:
        predict = method.fit(fold.train.with_roles(method.roles), run, lambda progress: None)
        results.append(evaluate(method.name, partial(_virtual, predict), fold.test.with_roles(method.roles)))
    return tuple(results)


def _virtual(predict: Predictor, inputs: FloatArray, brain: Mask) -> FloatArray:
    return predict(inputs, brain)[0]
