"""One 2D image of a series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.volume import FloatArray


@dataclass(frozen=True)
class Frame:
    """One 2D image: where it lies (PS3.3 C.7.6.2, LPS mm), what it shows, and how to get its pixels.

    ``spacing`` is (between rows, between columns) in mm, ``shape`` (rows, columns). ``where`` names the file for a
    person. ``stack`` and ``stack_position`` are Stack ID and In-Stack Position Number of enhanced images (0 without).
    ``read`` gives float32 [row, column], rescale slope and intercept applied, or raises ``ConversionError``.
    """

    where: str
    position: NDArray[np.float64]
    row_cosine: NDArray[np.float64]
    column_cosine: NDArray[np.float64]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    b_value: float | None
    isotropic: bool
    kind: tuple[str, ...]
    echo_time: float
    time: float
    acquisition: float
    stack: str
    stack_position: int
    read: Callable[[], FloatArray]
