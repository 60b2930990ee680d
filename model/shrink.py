"""A subject on a coarser grid, so that every study of the paper can be rehearsed at a size that fits the machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.cohort import Mask, Subject
from model.network import GRID_MULTIPLE

LESION_SHARE = 0.25
"""The share of a coarse voxel that must be lesion: at a half, lesions of a few millimetres would vanish."""


def shrink(subject: Subject, factor: int) -> Subject:
    """The subject with voxels ``factor`` times as wide: means of cubes of ``factor`` voxels, the grid padded with
    background to the multiple of 16 that the network needs. Factor 1 only pads. Raises ValueError for a factor below
    one."""
    if factor < 1:
        raise ValueError(f"the factor must be at least 1, not {factor}")
    brain = _means(subject.brain, factor) >= 0.5
    half = np.float16
    return Subject(
        np.stack([(_means(channel, factor) * brain).astype(half) for channel in subject.input]),
        (_means(subject.target, factor) * brain).astype(half),
        brain,
        brain & (_means(subject.lesion, factor) >= LESION_SHARE),
        subject.scales,
        subject.quality,
    )


def _means(image: NDArray[np.floating] | Mask, factor: int) -> NDArray[np.float32]:
    """The mean of each cube; the image is padded around its middle with zeros first."""
    unit = factor * GRID_MULTIPLE
    lacking = [-side % unit for side in image.shape]
    padded = np.pad(image.astype(np.float32), [(lack // 2, lack - lack // 2) for lack in lacking])
    z, y, x = (side // factor for side in padded.shape)
    means: NDArray[np.float32] = padded.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5), dtype=np.float32)
    return means
