"""Tiny stand-ins for brains: a smooth T1 with spheres that enhance, seen at a quarter of the dose with noise.

The enhancement saturates with the dose, as it does in a scanner, so no factor makes the low dose into the full one.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from model.cohort import Cohort, Subject, write_subject
from model.contenders import Contender
from model.crossvalidate import CrossValidation, Happening, Plan, cross_validate
from preprocessing.volume import Role

ROLES = (Role.T1, Role.LOW_DOSE)
SIDE = 32


def tiny_subject(seed: int, side: int = SIDE, lesion: bool = True) -> Subject:
    random = np.random.default_rng(seed)
    grid = np.indices((side, side, side)) - (side - 1) / 2
    brain = (grid**2).sum(axis=0) < (0.45 * side) ** 2
    t1 = 0.35 + 0.8 * gaussian_filter(random.normal(size=brain.shape), 2)
    uptake = np.zeros_like(t1)
    for _ in range(3 if lesion else 0):
        centre = random.uniform(-0.2 * side, 0.2 * side, size=(3, 1, 1, 1))
        uptake[((grid - centre) ** 2).sum(axis=0) < random.uniform(2, 4) ** 2] = random.uniform(0.5, 1)
    low, full = (t1 + 0.5 * (1 - np.exp(-2.5 * dose * uptake)) for dose in (0.25, 1.0))
    noisy = [image + 0.02 * random.normal(size=brain.shape) for image in (t1, low, full)]
    t1, low, full = (np.where(brain, np.clip(image, 0, 1), 0).astype(np.float16) for image in noisy)
    return Subject(np.stack((t1, low)), full, brain, brain & (uptake > 0))


def tiny_cohort(folder: Path, subjects: int, first_seed: int = 0) -> Cohort:
    for seed in range(first_seed, first_seed + subjects):
        write_subject(folder, f"subject_{seed:03d}", f"head_{seed % 4}", ROLES, tiny_subject(seed, lesion=seed % 3 > 0))
    return Cohort.open(folder)


def validated(
    plan: Plan, contender: Contender, told: Callable[[Happening], None] = lambda happening: None
) -> CrossValidation:
    return cross_validate([(plan, contender)], told)[0]
