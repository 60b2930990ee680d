"""What a network must beat: answers that need no learning.

Doing nothing shows the low dose as if it were the full one. Extrapolation says that contrast adds up: if a quarter
of the dose brightened a voxel by d, the whole dose brightens it by k·d, with one k for everybody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.cohort import Cohort
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]


def unchanged(inputs: FloatArray, roles: tuple[Role, ...]) -> FloatArray:
    """The low-dose channel of (M, z, y, x) as it is, (z, y, x)."""
    return _channel(inputs, roles, Role.LOW_DOSE).copy()


def extrapolated(inputs: FloatArray, roles: tuple[Role, ...], k: float) -> FloatArray:
    """T1 + k·(low-dose − T1), cut to [0, 1], (z, y, x)."""
    t1 = _channel(inputs, roles, Role.T1)
    return np.clip(t1 + np.float32(k) * (_channel(inputs, roles, Role.LOW_DOSE) - t1), 0, 1)


def fit_extrapolation(cohort: Cohort) -> float:
    """The k that minimises the squared error of T1 + k·(low-dose − T1) over the brains of ``cohort`` (before the
    cut)."""
    against, itself = 0.0, 0.0
    for record in cohort.subjects:
        subject = cohort.read(record)
        brain = np.asarray(subject.brain)
        t1, low_dose = (
            np.asarray(_channel(subject.input, cohort.roles, role))[brain].astype(np.float64)
            for role in (Role.T1, Role.LOW_DOSE)
        )
        gain = low_dose - t1
        against += float(gain @ (np.asarray(subject.target)[brain] - t1))
        itself += float(gain @ gain)
    if itself == 0:
        raise ValueError("the low dose equals T1 in every brain: there is nothing to extrapolate")
    return against / itself


def _channel(inputs: NDArray[np.floating], roles: tuple[Role, ...], role: Role) -> FloatArray:
    if role not in roles:
        raise ValueError(f"this rival needs {role.value}; the inputs are {', '.join(roles)}")
    channel: FloatArray = inputs[roles.index(role)].astype(np.float32)
    return channel
