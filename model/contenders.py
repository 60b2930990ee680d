"""Whatever can be asked for a virtual full dose and compared with others on the same folds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.cohort import Cohort, Mask
from model.ensemble import pooled
from model.folds import folds
from model.intensity import on_shared_scale
from model.losses import Loss
from model.network import Head
from model.rivals import extrapolated, fit_extrapolation, unchanged
from model.synthesise import average_flips
from model.train import TrainingProgress, train
from model.training_settings import Architecture, TrainingSettings
from preprocessing.processor import multiplies_bf16
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]
Predictor = Callable[[FloatArray, Mask], tuple[FloatArray, FloatArray | None]]
"""From inputs (M, z, y, x) and brain (z, y, x) to the virtual full dose and its uncertainty, None where there is none;
what either says outside the brain is not looked at."""
Told = Callable[[TrainingProgress], None]
PAIR = (Role.T1, Role.LOW_DOSE)
PATCH = 32
"""Side of Kleesiek's patches where the settings name none, voxels."""


class Contender(Protocol):
    """One way to answer."""

    @property
    def name(self) -> str:
        """As it stands in tables."""
        ...

    @property
    def roles(self) -> tuple[Role, ...]:
        """The inputs it wants, in order."""
        ...

    @property
    def identity(self) -> str:
        """All that decides its numbers but the cohort and the code."""
        ...

    def fit(self, train_set: Cohort, folder: Path, told: Told) -> Predictor:
        """Learn from ``train_set`` (which has ``roles``), in ``folder``, where a killed run goes on."""
        ...


@dataclass(frozen=True)
class Trained:
    """A network, answering with the mean of its eight flips (paper, section 2)."""

    name: str
    settings: TrainingSettings

    @property
    def roles(self) -> tuple[Role, ...]:
        return self.settings.roles

    @property
    def identity(self) -> str:
        return self.settings.identity

    def fit(self, train_set: Cohort, folder: Path, told: Told) -> Predictor:
        network = train(train_set, self.settings, folder, told)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network.to(device)
        half = self.settings.half_precision and multiplies_bf16(device)

        def predict(inputs: FloatArray, brain: Mask) -> tuple[FloatArray, FloatArray]:
            if self.settings.shared_scale:
                inputs = on_shared_scale(inputs, self.roles, brain)
            virtual, uncertainty = average_flips(network, inputs, half_precision=half, brain=brain)
            return np.clip(virtual, 0, 1), uncertainty

        return predict


@dataclass(frozen=True)
class FoldEnsemble:
    """Networks that each learned without another part of the training subjects, answering together."""

    member: Trained
    members: int = 3

    @property
    def name(self) -> str:
        return f"{self.member.name}, {self.members} together"

    @property
    def roles(self) -> tuple[Role, ...]:
        return self.member.roles

    @property
    def identity(self) -> str:
        return f"{self.members} folds of {self.member.identity}"

    def fit(self, train_set: Cohort, folder: Path, told: Told) -> Predictor:
        predictors = [
            self.member.fit(fold.train, folder / f"member-{fold.number}", told)
            for fold in folds(train_set, self.members, self.member.settings.seed)
        ]

        def predict(inputs: FloatArray, brain: Mask) -> tuple[FloatArray, FloatArray | None]:
            answers = [one(inputs, brain) for one in predictors]
            return pooled([virtual for virtual, _ in answers], [told for _, told in answers if told is not None])

        return predict


@dataclass(frozen=True)
class Nothing:
    """The low dose shown as it is."""

    name: str = "low dose as it is"
    roles: tuple[Role, ...] = PAIR
    identity: str = "nothing"

    def fit(self, train_set: Cohort, folder: Path, told: Told) -> Predictor:
        return lambda inputs, brain: (unchanged(inputs, self.roles), None)


@dataclass(frozen=True)
class Linear:
    """T1 + k·(low dose − T1), k given or (None) fitted to the training subjects."""

    name: str
    k: float | None
    roles: tuple[Role, ...] = PAIR

    @property
    def identity(self) -> str:
        return f"linear {self.k}"

    def fit(self, train_set: Cohort, folder: Path, told: Told) -> Predictor:
        k = fit_extrapolation(train_set) if self.k is None else self.k
        return lambda inputs, brain: (extrapolated(inputs, self.roles, k), None)


def _paper_name(settings: TrainingSettings) -> str:
    return "the paper" if settings.head is Head.PAPER else f"the paper, {settings.head} head"


def _kleesiek(settings: TrainingSettings) -> Contender:
    zero_dose = tuple(role for role in settings.roles if role is not Role.LOW_DOSE)
    if not zero_dose:
        raise ValueError("Kleesiek's network needs a series without contrast among the inputs")
    changed = replace(
        settings, architecture=Architecture.KLEESIEK, roles=zero_dose, loss=Loss.LIKELIHOOD,
        crop=settings.crop or PATCH, lesion_share=0.0, head=Head.PAPER, shared_scale=False,
    )  # fmt: skip
    return Trained("Kleesiek 2019, without contrast", changed)


RIVALS: dict[str, Callable[[TrainingSettings], Contender]] = {
    "nothing": lambda settings: Nothing(),
    "linear": lambda settings: Linear("T1 + k·(low − T1), k fitted", None),
    "linear4": lambda settings: Linear("T1 + 4·(low − T1)", 4.0),
    "gong": lambda settings: Trained(
        "Gong 2018, 2D slices", replace(settings, architecture=Architecture.GONG, roles=PAIR, loss=Loss.L1)
    ),
    "kleesiek": _kleesiek,
}
VARIANTS: dict[str, Callable[[TrainingSettings], Contender]] = {
    "residual": lambda settings: Trained("on top of the low dose", replace(settings, head=Head.RESIDUAL)),
    "difference": lambda settings: Trained("on top of the difference", replace(settings, head=Head.DIFFERENCE)),
    "huber": lambda settings: Trained("Huber loss", replace(settings, loss=Loss.HUBER)),
    "enhancement": lambda settings: Trained("enhancement-weighted", replace(settings, loss=Loss.ENHANCEMENT)),
    "ssim": lambda settings: Trained("L2 + SSIM", replace(settings, loss=Loss.L2_SSIM)),
    "shared-scale": lambda settings: Trained("shared intensity scale", replace(settings, shared_scale=True)),
}
"""Each differs from the paper by one switch: what is kept must have won alone."""
CONTENDERS: dict[str, Callable[[TrainingSettings], Contender]] = {
    "paper": lambda settings: Trained(_paper_name(settings), settings), **RIVALS, **VARIANTS,
    "ensemble": lambda settings: FoldEnsemble(Trained(_paper_name(settings), settings)),
}  # fmt: skip


def contenders(names: list[str], settings: TrainingSettings) -> list[Contender]:
    """Those of these names, ``rivals`` and ``variants`` standing for all of theirs. Raises ValueError for a name that
    there is not."""
    spelled: list[str] = []
    for name in names:
        spelled += {"rivals": list(RIVALS), "variants": list(VARIANTS)}.get(name, [name])
    unknown = [name for name in spelled if name not in CONTENDERS]
    if unknown:
        raise ValueError(f"no method is called {', '.join(unknown)}: choose from {', '.join(CONTENDERS)}")
    return [CONTENDERS[name](settings) for name in dict.fromkeys(spelled)]


def key_of(*parts: str) -> str:
    """A name for a folder that holds what came of exactly these."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
