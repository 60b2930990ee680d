"""What one training step sees: which subjects, which crop of each, which flips.

Every draw comes from a generator seeded with (seed, step), so nothing random has to be kept in a checkpoint: step
1000 is the same whether the process ran from the start or was started again at step 999. Choosing and doing are two
things: ``draw`` is random, ``load`` and ``flip`` are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from model.cohort import Cohort, Subject, SubjectRecord
from model.intensity import Line, line_to_t1, on_t1_scale
from preprocessing.volume import Role

SPATIAL_AXES = (-3, -2, -1)
FLIP_PROBABILITY = 0.5
"""For each of the three axes (paper, section 2, "Training and testing the deep network")."""


@dataclass(frozen=True)
class Example:
    """One element of a batch: a subject, the corner of its crop in voxels (z, y, x), and the axes to flip."""

    record: SubjectRecord
    corner: tuple[int, int, int]
    flipped_axes: tuple[int, ...]

    def window(self, crop: int | None) -> tuple[slice, ...]:
        """Where its cube of side ``crop`` lies in the grid; None for all of it."""
        return tuple(slice(None) if crop is None else slice(start, start + crop) for start in self.corner)


def draw(
    cohort: Cohort, seed: int, step: int, batch: int, crop: int | None, lesion_share: float
) -> tuple[Example, ...]:
    """The examples of ``step``. Subjects come in a new random order each epoch, each once, as in the paper.

    ``crop`` is the side of a cube in voxels, None for the whole grid. Crops are centred on a random voxel of the
    brain, a ``lesion_share`` of them on one of the enhancing lesion where the subject has one.
    """
    return tuple(_draw_one(cohort, seed, step * batch + place, crop, lesion_share) for place in range(batch))


def _draw_one(cohort: Cohort, seed: int, count: int, crop: int | None, lesion_share: float) -> Example:
    epoch, place = divmod(count, len(cohort.subjects))
    order = np.random.default_rng((seed, 0, epoch)).permutation(len(cohort.subjects))
    record = cohort.subjects[order[place]]
    random = np.random.default_rng((seed, 1, count))
    flipped = tuple(axis for axis, toss in zip(SPATIAL_AXES, random.random(3), strict=True) if toss < FLIP_PROBABILITY)
    if crop is None:
        return Example(record, (0, 0, 0), flipped)
    subject = cohort.read(record)
    on_lesion = random.random() < lesion_share and bool(subject.lesion.any())
    candidates = np.flatnonzero(subject.lesion if on_lesion else subject.brain)
    centre = np.unravel_index(random.choice(candidates), subject.brain.shape)
    corner = tuple(
        int(np.clip(middle - crop // 2, 0, side - crop)) for middle, side in zip(centre, subject.brain.shape,
        strict=True)
    )
    return Example(record, (corner[0], corner[1], corner[2]), flipped)


def load(
    cohort: Cohort, examples: tuple[Example, ...], crop: int | None, *, shared_scale: bool = False
) -> tuple[Tensor, Tensor]:
    """The inputs (batch, M, z, y, x) and targets (batch, 1, z, y, x) of the crops, on the CPU, not flipped yet; with
    ``shared_scale`` the low dose is on T1's scale (``model.intensity``)."""
    pairs = [_cut(cohort.read(example.record), example.window(crop)) for example in examples]
    if shared_scale:
        pairs = [
            (on_t1_scale(inputs, cohort.roles, _line(cohort, example.record)), target)
            for (inputs, target), example in zip(pairs, examples, strict=True)
        ]
    inputs, targets = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))


def _cut(subject: Subject, window: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(subject.input[:, *window]), np.asarray(subject.target[None, *window])


@lru_cache(maxsize=1024)
def _line(cohort: Cohort, record: SubjectRecord) -> Line:
    """Found on the whole brain, once for each subject."""
    subject = cohort.read(record)
    t1, low_dose = (np.asarray(subject.input[cohort.roles.index(role)]) for role in (Role.T1, Role.LOW_DOSE))
    return line_to_t1(t1, low_dose, np.asarray(subject.brain))


def flip(batch: Tensor, examples: tuple[Example, ...]) -> Tensor:
    """Each example of ``batch`` flipped along its axes, on the device the batch is on (paper, section 2)."""
    return torch.stack(
        [torch.flip(one, example.flipped_axes) for one, example in zip(batch, examples, strict=True)]
    )


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, what torch draws on ``device`` (dropout) depends on ``seed`` alone; outside nothing is changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Inside, a GPU takes kernels that add in a fixed order, where it has them: by default cuDNN may sum a gradient in
    whatever order its threads end, and no run would come to the numbers of another. A processor's kernels do anyway."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory  # type: ignore[attr-defined]  # missing in torch's types
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs time, and nobody reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
