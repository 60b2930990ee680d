"""A cohort that lies on the training device: each voxel travels there once instead of once in every epoch.

Bound for a GPU whose memory holds it (105 subjects of the paper's grid, four inputs: 5.2 GB). On a processor the arrays
are mapped into memory anyway, and the system keeps what is used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.cohort import Cohort
from model.processes import beside_on_gpu
from model.sampling import Example, load

SHARE = 1 / 3
"""Of the device's free memory all cohorts on it may take; the rest is for the networks' feature maps."""


class ResidentCohort:
    """All of a cohort's inputs and targets on ``device``, as they are stored (float16), or in fp32 where
    ``shared_scale`` has moved the low dose."""

    def __init__(self, cohort: Cohort, device: torch.device, *, shared_scale: bool) -> None:
        self._volumes: dict[str, tuple[Tensor, Tensor]] = {}
        for record in cohort.subjects:
            whole = (Example(record, (0, 0, 0), ()),)
            (inputs,), (target,) = load(cohort, whole, None, shared_scale=shared_scale)
            self._volumes[record.name] = (inputs.to(device), target.to(device))

    def load(self, examples: tuple[Example, ...], crop: int | None) -> tuple[Tensor, Tensor]:
        """As ``model.sampling.load``, on the device: inputs (batch, M, z, y, x) and targets (batch, 1, z, y, x)."""
        pairs = []
        for example in examples:
            window = example.window(crop)
            pairs.append([volume[:, *window] for volume in self._volumes[example.record.name]])
        inputs, targets = (torch.stack(volumes) for volumes in zip(*pairs, strict=True))
        return inputs, targets


def fits(cohort: Cohort, device: torch.device, *, shared_scale: bool) -> bool:
    """Whether ``device`` is a GPU with room for ``cohort``, and for as much again from each process that shares it."""
    if device.type != "cuda":
        return False
    voxels = int(np.prod(cohort.read(cohort.subjects[0]).brain.shape))
    needed = len(cohort.subjects) * voxels * (4 * len(cohort.roles) + 2 if shared_scale else 2 * len(cohort.roles) + 2)
    free, _ = torch.cuda.mem_get_info()  # of the current one, which is this process's
    return needed <= SHARE * free / beside_on_gpu()
