"""What is measured: names, units and meanings. Limits are no part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from preprocessing.role import Role


@dataclass(frozen=True)
class Definition:
    """What a measure is called, its unit ("" for a plain number), and how many digits are worth showing."""

    label: str
    unit: str = ""
    digits: int = 2


MEASURES = {
    "coverage": Definition("brain inside the field of view", "%", 1),
    "brain_cut": Definition("area of brain cut by the field of view", "cm²", 1),
    "slice_spacing": Definition("distance between slices", "mm", 2),
    "in_plane": Definition("pixel size", "mm", 2),
    "signal_to_noise": Definition("signal-to-noise ratio of white matter", "", 1),
    "ghosting": Definition("signal displaced into the air (motion, ghosts)", "% of white matter", 1),
    "spikes": Definition("strongest isolated point of k-space above its neighbours", "dB", 1),
    "wrap_around": Definition("area of head cut at the sides of the field of view", "cm²", 1),
    "overlap": Definition("brain covered by every series", "%", 1),
    "similarity": Definition("normalised mutual information with T1", "", 3),
    "similarity_z": Definition("distance of the similarity from normal", "robust sd", 1),
    "misalignment": Definition("distance to a better alignment with T1 (of T1, with the template)", "mm", 1),
    "rotation": Definition("rotation from T1", "°", 1),
    "translation": Definition("shift from T1 at the brain's centre", "mm", 1),
    "brain_volume": Definition("brain volume", "ml", 0),
    "brain_shape": Definition("overlap of the brain with the template's (Dice)", "", 3),
    "brain_scale": Definition("largest stretch or squeeze to the template", "", 2),
    "contrast": Definition("spread of the brain's signal over its mean", "", 2),
    "gain": Definition("brain signal of low-dose over T1", "", 2),
    "enhancement": Definition("enhancement of low-dose over T1", "% of white matter", 1),
    "bias": Definition("strength of the bias field that N4 removed (sd)", "%", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One number. ``role`` is the series it speaks of, None for the study; NaN where it cannot be known, and ``note``
    says why."""

    name: str
    value: float
    role: Role | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """Name and series, as in ``coverage.flair``."""
        return self.name if self.role is None else f"{self.name}.{self.role}"

    @property
    def known(self) -> bool:
        return math.isfinite(self.value)
