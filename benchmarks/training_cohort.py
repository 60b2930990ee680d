"""A simulated training cohort: subjects on the network's grid, normalised as `preprocessing/` normalises a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.cohort import INDEX, Cohort, write_subject
from node.cohort import normalised
from preprocessing.role import CHANNELS
from simulator.study import network_grid, simulate_subject

PHANTOM_EVERY = 6
"""Every so many subjects stand on the packaged ICBM 152 anatomy, which the node demonstrates itself on."""


def simulate_cohort(folder: Path, anatomy: Path | None, count: int, say: Callable[[str], None]) -> Cohort:
    """The cohort in ``folder`` with the subjects of seeds 0 … count − 1; those that are there are kept."""
    there = {record.name for record in Cohort.open(folder).subjects} if (folder / INDEX).exists() else set()
    for seed in range(count):
        name = f"simulated_{seed:04d}"
        if name in there:
            continue
        phantom = seed % PHANTOM_EVERY == PHANTOM_EVERY - 1
        simulated = network_grid(simulate_subject(seed, None if phantom else anatomy))
        write_subject(folder, name, simulated.head, CHANNELS, normalised(simulated))
        say(f"{name}: {simulated.head}, {simulated.condition}, lesion of {np.count_nonzero(simulated.lesion)} mm³")
    return Cohort.open(folder)
