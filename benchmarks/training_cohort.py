"""A simulated training cohort: subjects on the network's grid, normalised as `preprocessing/` normalises a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.cohort import INDEX, Cohort, Subject, write_subject
from preprocessing.normalise import scale_of
from preprocessing.prepare import CHANNELS
from preprocessing.volume import FloatArray, Role
from simulator.study import NetworkGridSubject, network_grid, simulate_subject

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


def normalised(simulated: NetworkGridSubject) -> Subject:
    """Each series in [0, 1] by the statistics of its own brain, zero outside it (paper, section 2)."""
    brain = simulated.brain

    def unit(series: FloatArray) -> FloatArray:
        return np.where(brain, scale_of(series, brain).to_unit(series), np.float32(0))

    series = {
        Role.T1: simulated.t1, Role.FLAIR: simulated.flair, Role.ADC: simulated.adc, Role.LOW_DOSE: simulated.low_dose
    }
    inputs = np.stack([unit(series[role]) for role in CHANNELS]).astype(np.float16)
    return Subject(inputs, unit(simulated.full_dose).astype(np.float16), brain, simulated.lesion & brain)
