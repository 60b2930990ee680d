"""A simulated patient: a head with its disease at 1 mm, and what a scanner of any field would find in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.deformation import DeformationSettings, deformed
from simulator.grid import Grid
from simulator.heads import Head, head_files, load_head
from simulator.icbm import icbm_head
from simulator.kinetics import Injection, concentrations, tissue_at
from simulator.lesions import Condition, Lesion, LesionSettings, Painter
from simulator.meninges import brain_hull, immovable, tissues
from simulator.randomness import smooth_field, stream
from simulator.tissue import (
    ADC_SPREAD_TUMOUR,
    DURA_FILL,
    ENHANCING_LESION,
    TEXTURE_DENSITY,
    TEXTURE_T1,
    Tissue,
    tissue_table,
)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class SubjectSettings:
    """How subjects are drawn; ``condition`` fixes the disease instead of drawing it."""

    deformation: DeformationSettings = field(default_factory=DeformationSettings)
    lesions: LesionSettings = field(default_factory=LesionSettings)
    condition: Condition | None = None


@dataclass(frozen=True)
class Person:
    """Who the patient pretends to be; plainly fictional. ``weight`` in kg."""

    name: str
    identifier: str
    birth_date: date
    sex: str
    weight: float


@dataclass(frozen=True)
class ParameterMaps:
    """T1 and T2 in ms, proton density relative to water, ADC in mm²/s; float32 [k, j, i] on the subject's grid."""

    t1: FloatArray
    t2: FloatArray
    density: FloatArray
    adc: FloatArray


@dataclass(frozen=True)
class Subject:
    """The true head at 1 mm. Arrays are [k, j, i] on ``grid`` (LPS, along the patient axes).

    ``tissues`` holds :class:`Tissue` numbers; ``brain`` and ``lesion`` (enhancing tissue) are masks; ``head`` names the
    anatomy that the subject was made from, so that folds can be split by head.
    """

    seed: int
    person: Person
    head: str
    condition: Condition
    grid: Grid
    tissues: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    lesions: tuple[Lesion, ...]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index (i, j, k, 1) to LPS mm."""
        return self.grid.matrix

    @cached_property
    def lesion(self) -> NDArray[np.bool_]:
        """Enhancing lesion tissue."""
        return np.isin(self.tissues, ENHANCING_LESION)

    def parameters(self, field_tesla: float) -> ParameterMaps:
        """What relaxation and diffusion are in each voxel at 1.5 or 3 T."""
        table = tissue_table(field_tesla, stream(self.seed, "relaxation"))
        rng = stream(self.seed, "texture")
        coarse, fine = smooth_field(rng, self.grid, 22.0), smooth_field(rng, self.grid, 4.0)
        texture = 0.8 * coarse + 0.6 * fine
        fluid = np.isin(np.arange(len(Tissue)), (Tissue.CSF, Tissue.EYE, Tissue.CAVITY))
        # Fluid is even; everything else has a texture, tumours more of it, as their cellularity varies.
        strength = np.where(fluid, 0.0, TEXTURE_T1).astype(np.float32)
        diffusion = np.where(fluid, 0.0, 0.04).astype(np.float32)
        strength[[Tissue.RIM, Tissue.SOLID, Tissue.OEDEMA, Tissue.LOW_GRADE, Tissue.NECROSIS]] = 0.06
        diffusion[[Tissue.RIM, Tissue.SOLID]] = ADC_SPREAD_TUMOUR
        t1 = table.t1[self.tissues] * (1 + strength[self.tissues] * texture)
        density = table.density[self.tissues] * (1 + (strength * TEXTURE_DENSITY / TEXTURE_T1)[self.tissues] * fine)
        density[self.tissues == Tissue.DURA] *= DURA_FILL
        adc = table.adc[self.tissues] * (1 + diffusion[self.tissues] * texture)
        return ParameterMaps(t1, table.t2[self.tissues], density, np.maximum(adc, 0))

    def concentration(self, minute: float, injections: Sequence[Injection]) -> FloatArray:
        """Contrast agent in mmol/L in each voxel at one minute of the examination."""
        given = tuple(injections)
        table = concentrations(minute, given)
        rng = stream(self.seed, "perfusion")
        uneven = smooth_field(rng, self.grid, 11.0)
        # How even the supply is: blood itself is; dura lights up in patches; grey and white vary by a quarter [A].
        spread = np.full(len(Tissue), 0.25, dtype=np.float32)
        spread[[Tissue.VEIN, Tissue.ARTERY]] = 0.0
        spread[[Tissue.DURA, Tissue.CHOROID]] = 0.5
        agent = table[self.tissues] * np.exp(spread[self.tissues] * np.clip(uneven, -2, 1.2))
        flat = agent.ravel()
        leak = smooth_field(rng, self.grid, 6.0).ravel()
        for lesion in self.lesions:
            # Leakiness varies inside a tumour, so the low dose is no fixed share of the full one, even in one lesion.
            knots = np.array([0.4, 0.7, 1.0, 1.3, 1.6])
            levels = [tissue_at(lesion.exchange.scaled(k), minute, given) for k in knots]
            flat[lesion.voxels] = np.interp(1 + 0.2 * leak[lesion.voxels], knots, levels)
        return np.asarray(flat.reshape(agent.shape), dtype=np.float32)


def simulate_subject(seed: int, anatomy: Path | None = None, settings: SubjectSettings | None = None) -> Subject:
    """The subject with this seed, always the same one.

    ``anatomy`` is a folder of ``head_*.nii.gz`` label maps; without it the ICBM 152 phantom is used. Raises
    ``AnatomyError`` when the folder has none or one cannot be read.
    """
    settings = settings or SubjectSettings()
    head = _head(seed, anatomy)
    grown = deformed(head, stream(seed, "deformation"), settings.deformation)
    labels = tissues(grown, stream(seed, "tissues"))
    brain = brain_hull(grown.structures)
    condition = settings.condition or settings.lesions.draw(stream(seed, "condition"))
    painter = Painter(labels, brain, immovable(grown.structures), stream(seed, "lesions"))
    painter.paint(condition)
    remaining = tuple(_still_there(lesion, labels) for lesion in painter.lesions)
    return Subject(seed, person(seed), head.name, condition, grown.grid, labels, brain, remaining)


def person(seed: int) -> Person:
    """A fictional patient for a seed."""
    rng = stream(seed, "person")
    born = date(1940, 1, 1) + timedelta(days=int(rng.integers(0, 22000)))
    sex = str(rng.choice(["F", "M"]))
    weight = float(np.round(np.clip(rng.normal(78 if sex == "M" else 66, 11), 42, 130), 1))
    return Person(f"SIMULATED^PATIENT {seed:04d}", f"SIM{seed:06d}", born, sex, weight)


def _head(seed: int, anatomy: Path | None) -> Head:
    if anatomy is None:
        return icbm_head()
    files = head_files(anatomy)
    return load_head(files[int(stream(seed, "head").integers(len(files)))])


def _still_there(lesion: Lesion, labels: NDArray[np.uint8]) -> Lesion:
    """The part of a lesion that no later one has painted over."""
    kept = np.isin(labels.ravel()[lesion.voxels], ENHANCING_LESION)
    return Lesion(lesion.voxels[kept], lesion.exchange)
