"""Tumours and other lesions: where they sit, what they are made of, how they take up contrast agent.

Proportions follow the paper's cohort (section 2: "mixed conditions, including brain metastases, glioblastoma"; figure 3
has a patient without enhancing lesion); the numbers are [A].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from simulator.kinetics import Exchange, draw_tumour
from simulator.lesion_shapes import Lump, Place, lump
from simulator.tissue import Tissue

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Condition(StrEnum):
    """What a patient has."""

    METASTASES = "metastases"
    GLIOBLASTOMA = "glioblastoma"
    RESECTED = "resected"
    MENINGIOMA = "meningioma"
    LOW_GRADE = "low_grade"
    WHITE_MATTER_LESIONS = "white_matter_lesions"
    HAEMORRHAGE = "haemorrhage"
    NONE = "none"


@dataclass(frozen=True)
class LesionSettings:
    """Weights of the conditions; they need not add up to one. Raises ``ValueError`` when no weight is positive."""

    proportions: dict[Condition, float] = field(
        default_factory=lambda: {
            Condition.METASTASES: 0.38,
            Condition.GLIOBLASTOMA: 0.18,
            Condition.RESECTED: 0.14,
            Condition.MENINGIOMA: 0.08,
            Condition.LOW_GRADE: 0.06,
            Condition.WHITE_MATTER_LESIONS: 0.05,
            Condition.HAEMORRHAGE: 0.03,
            Condition.NONE: 0.08,
        }
    )

    def __post_init__(self) -> None:
        weights = list(self.proportions.values())
        if not all(0 <= weight < np.inf for weight in weights) or sum(weights) <= 0:
            raise ValueError("the proportions of conditions must not be negative and at least one must be positive")

    def draw(self, rng: np.random.Generator) -> Condition:
        """A condition at random."""
        weights = np.array(list(self.proportions.values()), dtype=np.float64)
        return Condition(rng.choice([str(c) for c in self.proportions], p=weights / weights.sum()))


def parse_proportions(text: str) -> LesionSettings:
    """Weights written as ``metastases=0.5,none=0.5``; conditions that are left out do not occur.

    Raises ``ValueError`` that says what is known when the text is not so.
    """
    weights = {}
    for part in text.split(","):
        name, _, written = part.strip().partition("=")
        if name not in list(Condition):
            raise ValueError(f"condition {name!r} is not known; choose from {', '.join(Condition)}")
        try:
            weights[name] = float(written)
        except ValueError:
            raise ValueError(f"proportions are written metastases=0.5,none=0.5; got {part.strip()!r}") from None
    # In the order of the conditions, because a draw depends on it: the same proportions are the same cohort.
    return LesionSettings({condition: weights[condition] for condition in Condition if condition in weights})


@dataclass(frozen=True)
class Lesion:
    """One lesion's enhancing part: flat voxel indices into the label map, and its own exchange with blood."""

    voxels: NDArray[np.int64]
    exchange: Exchange


class Painter:
    """Paints the lesions of one patient into a label map and remembers what enhances."""

    def __init__(self, labels: Labels, brain: Mask, immovable: Mask, rng: np.random.Generator) -> None:
        self.labels = labels
        self.rng = rng
        self.lesions: list[Lesion] = []
        parenchyma = np.isin(labels, (Tissue.WHITE, Tissue.GREY, Tissue.PUTAMEN, Tissue.CAUDATE, Tissue.DEEP_GREY))
        self.white = np.flatnonzero(labels == Tissue.WHITE)
        self.brain = brain
        self.immovable = immovable
        self.parenchyma = parenchyma & brain

    def paint(self, condition: Condition) -> None:
        """Paint a patient's whole disease."""
        parts: dict[Condition, Callable[[], None]] = {
            Condition.METASTASES: self._metastases,
            Condition.GLIOBLASTOMA: self._glioblastoma,
            Condition.RESECTED: self._resected,
            Condition.MENINGIOMA: self._meningioma,
            Condition.LOW_GRADE: self._low_grade,
            Condition.WHITE_MATTER_LESIONS: self._white_matter_lesions,
            Condition.HAEMORRHAGE: self._haemorrhage,
            Condition.NONE: lambda: None,
        }
        parts[condition]()

    def _place(self, radius: float) -> Place:
        """A voxel of white matter, not too near the rim of the map."""
        voxel = int(self.rng.choice(self.white))
        k, j, i = np.unravel_index(voxel, self.labels.shape)
        return Place((int(k), int(j), int(i)), radius)

    def _fill(self, shape: Lump, where: Mask, tissue: Tissue) -> NDArray[np.int64]:
        """Give ``where`` (a mask in the lump's box, brain only) a tissue; returns the flat indices."""
        view = self.labels[shape.box]
        view[where] = tissue
        index = np.argwhere(where) + np.array([s.start for s in shape.box])
        return np.asarray(np.ravel_multi_index(tuple(index.T), self.labels.shape), dtype=np.int64)

    def _soft(self, shape: Lump) -> Mask:
        """Brain and sulci in the lump's box, without dura, ventricles and large vessels: what a tumour grows into."""
        hard = self.immovable[shape.box] | (self.labels[shape.box] == Tissue.DURA)
        return np.asarray(self.brain[shape.box] & ~hard)

    def _oedema(self, place: Place, width: float) -> None:
        """Fingers of oedema in white matter around a tumour; cortex is spared."""
        shape = lump(self.rng, self.labels.shape, Place(place.centre, place.radius + width), 0.35)
        white = self.labels[shape.box] == Tissue.WHITE
        self._fill(shape, (shape.depth < 1) & white, Tissue.OEDEMA)

    def _enhancing(self, place: Place, ring: bool, thickness: float, irregular: float) -> None:
        shape = lump(self.rng, self.labels.shape, place, irregular)
        soft = self._soft(shape)
        inside = (shape.depth < 1) & soft
        if ring:
            core = inside & (shape.depth < 1 - thickness * (1 + 0.45 * shape.roughness) / place.radius)
            self._fill(shape, core, Tissue.NECROSIS)
            inside &= ~core
        exchange = draw_tumour(self.rng)
        self.lesions.append(Lesion(self._fill(shape, inside, Tissue.RIM if ring else Tissue.SOLID), exchange))

    def _metastases(self) -> None:
        # One or a few is common, many are not; small ones are more frequent than large ones.
        number = int(np.clip(np.round(self.rng.exponential(3.5)), 1, 20))
        for _ in range(number):
            radius = float(np.clip(self.rng.lognormal(np.log(4.0), 0.6), 1.2, 15.0))
            place = self._place(radius)
            if radius > 3.5:
                self._oedema(place, radius * self.rng.uniform(0.3, 1.6))
            ring = radius > 4.5 and self.rng.random() < 0.65
            self._enhancing(place, ring, self.rng.uniform(1.8, 3.5), 0.12)

    def _glioblastoma(self) -> None:
        place = self._place(self.rng.uniform(11, 24))
        self._oedema(place, self.rng.uniform(6, 15))
        self._enhancing(place, True, self.rng.uniform(2.0, 5.5), 0.28)
        if self.rng.random() < 0.3:
            self._enhancing(self._near(place), False, 0, 0.2)

    def _near(self, place: Place) -> Place:
        """A satellite just outside a tumour."""
        direction = self.rng.standard_normal(3)
        centre = np.array(place.centre) + direction / np.linalg.norm(direction) * place.radius * 1.3
        k, j, i = (int(v) for v in np.clip(centre, 8, np.array(self.labels.shape) - 9))
        return Place((k, j, i), self.rng.uniform(2, 6))

    def _resected(self) -> None:
        place = self._place(self.rng.uniform(9, 22))
        self._oedema(place, self.rng.uniform(3, 12))
        shape = lump(self.rng, self.labels.shape, place, 0.15)
        soft = self._soft(shape)
        cavity = (shape.depth < 1) & soft
        rim = (shape.depth >= 1) & (shape.depth < 1 + 2.2 / place.radius) & soft
        self._fill(shape, cavity, Tissue.CAVITY)
        kind = self.rng.random()
        if kind < 0.65:
            # A rim after surgery is broken: scar here, residual tumour there.
            part = rim & (shape.roughness > (-0.9 if kind < 0.3 else 0.3))
            self.lesions.append(Lesion(self._fill(shape, part, Tissue.RIM), draw_tumour(self.rng)))
        if kind > 0.5:
            self._fill(shape, rim & (shape.roughness < -0.4), Tissue.HAEMORRHAGE)

    def _meningioma(self) -> None:
        dura = np.flatnonzero((self.labels == Tissue.DURA) & self._near_brain())
        if dura.size == 0:
            raise ValueError("this head has no dura next to the brain; a meningioma needs one")
        k, j, i = np.unravel_index(int(self.rng.choice(dura)), self.labels.shape)
        place = Place((int(k), int(j), int(i)), self.rng.uniform(6, 17))
        if self.rng.random() < 0.5:
            self._oedema(place, self.rng.uniform(3, 9))
        shape = lump(self.rng, self.labels.shape, place, 0.12)
        view = self.labels[shape.box]
        intracranial = self.brain[shape.box] | np.isin(view, (Tissue.CSF, Tissue.DURA))
        # A globe on the dura grows inwards; bone keeps it on one side.
        inside = (shape.depth < 1) & intracranial & ~np.isin(view, (Tissue.VEIN, Tissue.BONE, Tissue.MARROW))
        strength = Exchange(self.rng.uniform(0.18, 0.26), self.rng.uniform(0.34, 0.42), 0.10)
        self.lesions.append(Lesion(self._fill(shape, inside, Tissue.MENINGIOMA), strength))

    def _near_brain(self) -> Mask:
        near = self.brain.copy()
        for axis in range(3):
            for step in (-2, 2):
                near |= np.roll(self.brain, step, axis)
        return near

    def _low_grade(self) -> None:
        shape = lump(self.rng, self.labels.shape, self._place(self.rng.uniform(10, 24)), 0.3)
        self._fill(shape, (shape.depth < 1) & self.parenchyma[shape.box], Tissue.LOW_GRADE)

    def _white_matter_lesions(self) -> None:
        for _ in range(int(self.rng.integers(5, 40))):
            shape = lump(self.rng, self.labels.shape, self._place(float(self.rng.uniform(1.2, 5.0))), 0.2)
            white = self.labels[shape.box] == Tissue.WHITE
            self._fill(shape, (shape.depth < 1) & white, Tissue.WHITE_LESION)

    def _haemorrhage(self) -> None:
        place = self._place(self.rng.uniform(5, 14))
        self._oedema(place, self.rng.uniform(2, 8))
        shape = lump(self.rng, self.labels.shape, place, 0.2)
        self._fill(shape, (shape.depth < 1) & self._soft(shape), Tissue.HAEMORRHAGE)
