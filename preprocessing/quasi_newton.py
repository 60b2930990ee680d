"""BFGS with a backtracking line search (Nocedal and Wright 2006, algorithms 3.1 and 6.1) for a handful of parameters.

SciPy's L-BFGS-B finds the same minima, but wakes a pool of threads for its 6 × 6 matrices, which costs more than the
function, and stops by the function's value, where a registration is done when its steps are short.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Parameters = NDArray[np.float64]

SUFFICIENT = 1e-4  # share of the decrease that the slope promises which a step must bring (Armijo)
SHORTER = 0.4
ITERATIONS, BACKTRACKS = 40, 8


def minimum(
    cost: Callable[[Parameters], tuple[float, Parameters]], start: Parameters, first_step: float, tolerance: float
) -> Parameters:
    """The parameters near ``start`` with the least cost; ``cost`` gives the value and the gradient.

    ``first_step`` is the length of the first step and half the longest of all. Ends when a step is shorter than
    ``tolerance``, or finds nothing lower.
    """
    here, (value, gradient) = start, cost(start)
    curvature = np.eye(len(start)) * first_step / max(float(np.linalg.norm(gradient)), 1e-12)  # of the inverse Hessian
    for _ in range(ITERATIONS):
        step = -curvature @ gradient
        step *= min(1.0, 2 * first_step / max(float(np.linalg.norm(step)), 1e-12))
        slope = float(gradient @ step)
        for _ in range(BACKTRACKS):
            lower, lower_gradient = cost(here + step)
            if lower <= value + SUFFICIENT * slope:
                break
            step, slope = step * SHORTER, slope * SHORTER
        else:
            return here
        change = lower_gradient - gradient
        here, value, gradient = here + step, lower, lower_gradient
        if np.linalg.norm(step) < tolerance:
            return here
        agreement = float(change @ step)
        if agreement > 0:
            project = np.eye(len(start)) - np.outer(step, change) / agreement
            curvature = project @ curvature @ project.T + np.outer(step, step) / agreement
    return here
