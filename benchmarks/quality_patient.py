"""A simulated patient for the quality control benchmark, with the series as the node prepares them, in memory.

The simulator's own brain mask stands for HD-BET's, everything else is prepared as the node prepares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.bias import correct_bias
from preprocessing.grid import NETWORK_GRID
from preprocessing.normalise import scale_of
from preprocessing.register import affine_to_template, rigid
from preprocessing.resample import Matrix, inverse, resample
from preprocessing.role import CHANNELS
from preprocessing.study import PreparedStudy
from preprocessing.volume import Geometry, Role, Volume
from simulator.acquisition import Acquired, ScanEffects, acquire
from simulator.grid import Grid
from simulator.network import draw_scanner
from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.study import Subject, simulate_subject

COUNTS = 400.0  # stored value of white matter


@dataclass
class Patient:
    """A simulated patient on a scanner drawn from the seed, and the series as they should be."""

    seed: int
    anatomy: Path
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = stream(self.seed, "quality fault")
        self.scanner = replace(draw_scanner(self.seed), scanner_adc=True)
        everything = examination(self.scanner, stream(self.seed, "examination"))
        self.plans = tuple(plan for plan in everything if plan.kind is not Kind.FULL_DOSE)

    @cached_property
    def subject(self) -> Subject:
        return simulate_subject(self.seed, self.anatomy)

    @cached_property
    def series(self) -> dict[Kind, Acquired]:
        return self.acquired()

    def acquired(self, effects: ScanEffects | None = None, kinds: tuple[Kind, ...] = ()) -> dict[Kind, Acquired]:
        """The series of these kinds (all without any), acquired with ``effects``."""
        plans = tuple(plan for plan in self.plans if not kinds or plan.kind in kinds)
        return {one.plan.kind: one for one in acquire(self.subject, self.scanner, plans, effects)}

    def clean(self) -> tuple[dict[Role, Volume], PreparedStudy]:
        volumes = as_volumes(self.series)
        return volumes, self.prepared(volumes)

    def prepared(self, volumes: Mapping[Role, Volume]) -> PreparedStudy:
        """The study as ``preprocessing.prepare`` makes it, but with the true brain mask."""
        t1 = volumes[Role.T1]
        brain = resample(Volume(self.subject.brain.astype(np.float32), geometry(self.subject.grid)), like=t1.geometry)
        return prepared(volumes, brain.array > 0.5)


def prepared(volumes: Mapping[Role, Volume], brain: NDArray[np.bool_]) -> PreparedStudy:
    """Registration, N4, resampling and normalisation, given the T1's brain."""
    t1 = volumes[Role.T1]
    to_t1 = affine_to_template(t1, brain)
    transforms: dict[Role, Matrix] = {}
    corrected = dict(volumes)
    for role in CHANNELS:
        if role not in volumes:
            continue
        guide = volumes[Role.DWI] if role is Role.ADC and Role.DWI in volumes else volumes[role]
        from_t1 = np.eye(4) if role is Role.T1 else rigid(t1, brain, guide)
        transforms[role] = from_t1 @ to_t1
        if role is not Role.ADC:
            here = resample(t1.with_array(brain), like=volumes[role].geometry, transform=inverse(from_t1)).array > 0.5
            corrected[role] = correct_bias(volumes[role], here)
    mask = resample(t1.with_array(brain), like=NETWORK_GRID, transform=to_t1).array > 0.5
    return on_grid(corrected, mask, transforms)


def on_grid(
    volumes: Mapping[Role, Volume], brain: NDArray[np.bool_], transforms: Mapping[Role, Matrix]
) -> PreparedStudy:
    """The series on the network grid, normalised inside ``brain``."""
    arrays = {
        role: resample(volumes[role], like=NETWORK_GRID, transform=matrix, outside=np.nan).array
        for role, matrix in transforms.items()
    }
    scales = {role: scale_of(array, brain & np.isfinite(array)) for role, array in arrays.items()}
    unit = [
        np.where(brain & np.isfinite(array), scales[role].to_unit(np.nan_to_num(array)), 0).astype(np.float32)
        for role, array in arrays.items()
    ]
    return PreparedStudy(tuple(arrays), np.stack(unit), brain, transforms, scales)


def as_volumes(series: Mapping[Kind, Acquired]) -> dict[Role, Volume]:
    """Acquired series as converted ones; of diffusion the b=0 image."""
    found = {}
    for kind, one in series.items():
        array = one.volumes[min(one.volumes, key=lambda weighting: weighting.b)]
        scaled = array if kind is Kind.ADC else np.rint(array * COUNTS)
        found[Role(str(kind))] = Volume(scaled.astype(np.float32), geometry(one.plan.grid), str(kind))
    return found


def geometry(grid: Grid) -> Geometry:
    """The simulator's grid in the preprocessing's words."""
    i, j, k = (float(value) for value in grid.origin)
    return Geometry(grid.size, (i, j, k), grid.spacing, tuple(float(value) for value in np.ravel(grid.directions)))


def without_end(volume: Volume, share: float, top: bool) -> Volume:
    """The volume without this share of its slices at one end."""
    old = volume.geometry
    lost = round(volume.array.shape[0] * share)
    kept = slice(0, -lost) if top else slice(lost, None)
    origin = old.affine @ [0.0, 0.0, 0.0 if top else float(lost), 1.0]
    size = (old.size[0], old.size[1], old.size[2] - lost)
    moved = replace(old, size=size, origin=(float(origin[0]), float(origin[1]), float(origin[2])))
    return Volume(volume.array[kept], moved, volume.source)
