"""Several networks that answer together: their mean, and an uncertainty that also counts how far they differ.

The eight flips tell how much an answer hangs on the pose of a head; networks that learned from different subjects (the
folds of a cross-validation) tell how much it hangs on who was learned from (Lakshminarayanan et al., NeurIPS 2017).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.cohort import Mask
from model.store import WEIGHTS, Model, WeightsError, model_folders
from model.synthesise import Synthesis, synthesise
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Ensemble:
    """One or more models of the same input channels. One alone is that model, name and digest included."""

    members: tuple[Model, ...]

    def __post_init__(self) -> None:
        others = [one for one in self.members if one.roles != self.members[0].roles]
        if others:
            wants = "; ".join(f"{one.card.name} takes {', '.join(one.roles)}" for one in (self.members[0], *others))
            raise WeightsError(f"networks that answer together need the same input channels: {wants}")

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Ensemble:
        """A model folder, or a folder of model folders that answer together. Raises WeightsError or CardError."""
        together = () if (folder / WEIGHTS).exists() else model_folders(folder)
        return cls(tuple(Model.load(one, device) for one in together or (folder,)))

    @property
    def roles(self) -> tuple[Role, ...]:
        """The input channels, in order."""
        return self.members[0].roles

    @property
    def name(self) -> str:
        """What the cards say."""
        first = self.members[0].card.name
        return first if len(self.members) == 1 else f"{first} and {len(self.members) - 1} more"

    @property
    def digest(self) -> str:
        """The model's; of several the SHA-256 over their digests, in whatever order they were given."""
        if len(self.members) == 1:
            return self.members[0].digest
        return hashlib.sha256("".join(sorted(one.digest for one in self.members)).encode()).hexdigest()


def synthesise_together(
    ensemble: Ensemble, inputs: FloatArray, brain: Mask, progress: Callable[[int, int], None] | None = None
) -> Synthesis:
    """As ``model.synthesise.synthesise``, by every member: the mean, and the standard deviation over all their flips.
    ``progress`` is told (flips done, flips of all members)."""
    answers = []
    for number, member in enumerate(ensemble.members):

        def told(done: int, of: int, before: int = number) -> None:
            if progress is not None:
                progress(before * of + done, len(ensemble.members) * of)

        answers.append(synthesise(member, inputs, brain, told))
    virtual, uncertainty = pooled([one.virtual for one in answers], [one.uncertainty for one in answers])
    return Synthesis(virtual, uncertainty, ensemble.digest, ensemble.roles)


def pooled(means: Sequence[FloatArray], deviations: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of equally many values each, of which ``means`` and ``deviations`` (divided by their
    number) are given: the variance is the mean of the variances and the variance of the means."""
    told, spread = np.stack(means), np.stack(deviations)
    variance = np.square(spread).mean(axis=0) + told.var(axis=0)
    return told.mean(axis=0), np.sqrt(variance)
