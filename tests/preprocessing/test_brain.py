"""HD-BET in our runner against HD-BET's own mask of a real patient, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.brain import (
    MIRRORINGS,
    BrainExtractionError,
    BrainExtractor,
    dice,
    is_stripped,
    largest_component,
)
from preprocessing.nifti import read_nifti
from preprocessing.volume import Volume
from tests.preprocessing import phantom
from tests.preprocessing.series import shared, truth

Mask = NDArray[np.bool_]


def test_real_patient_and_the_same_without_the_skull() -> None:
    folder = shared("real", "glioma_tcga_fg_6692")
    t1, reference = read_nifti(folder / "t1.nii.gz"), read_nifti(folder / "t1_hdbet_mask.nii.gz").array > 0.5
    extractor = BrainExtractor()
    shares: list[float] = []
    mask = extractor.mask(t1, shares.append)
    overlap = dice(mask, reference)
    print(f"HD-BET fold 0 against the reference mask of the real glioma: Dice {overlap:.4f}")
    assert overlap >= 0.95
    assert shares == [1.0]
    with pytest.raises(BrainExtractionError, match="without its skull"):
        extractor.mask(t1.with_array(np.where(reference, t1.array, 0)))


def noise(shape: tuple[int, ...]) -> NDArray[np.floating]:
    return np.abs(np.random.default_rng(0).normal(0, 3, shape))


STRIPPED: list[tuple[str, Callable[[Volume, Mask], NDArray[np.floating]], bool]] = [
    ("whole head in noise", lambda t1, brain: t1.array + noise(brain.shape), False),
    ("noise in whole numbers", lambda t1, brain: np.round(t1.array + noise(brain.shape) / 3), False),
    ("air set to zero", lambda t1, brain: np.where(t1.array > 5, t1.array, 0), False),
    ("defaced", lambda t1, brain: np.where(np.arange(brain.shape[1])[:, None] < np.argwhere(brain)[:, 1].min() - 2, 0,
                                           np.where(t1.array > 5, t1.array, 0)), False),
    ("stripped", lambda t1, brain: np.where(brain, t1.array, 0), True),
    ("stripped loosely", lambda t1, brain: np.where(ndimage.binary_dilation(brain, iterations=2), t1.array, 0), True),
    ("stripped, resampled", lambda t1, brain: ndimage.shift(np.where(brain, t1.array, 0), (0.3, 0.2, 0.4)), True),
    ("stripped, other background", lambda t1, brain: np.where(brain, t1.array, -1024), True),
]  # fmt: skip


@pytest.mark.parametrize(("image", "expected"), [row[1:] for row in STRIPPED], ids=[row[0] for row in STRIPPED])
def test_stripped_image_is_noticed_and_a_head_is_not(
    image: Callable[[Volume, Mask], NDArray[np.floating]], expected: bool
) -> None:
    t1, _, brain = phantom.head()
    assert is_stripped(t1.with_array(image(t1, brain)), brain) is expected


def test_mirrored_passes_are_mirrored_back() -> None:
    """A network that works voxel by voxel must give the same with all mirrorings as with none."""

    class Voxelwise(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            brain = torch.sigmoid(image)
            return torch.cat([1 - brain, brain], dim=1)

    image = np.random.default_rng(2).normal(size=(20, 24, 17)).astype(np.float32)
    extractor = BrainExtractor()
    extractor.networks = [Voxelwise()]
    once = extractor._probability(image, None)
    shares: list[float] = []
    extractor.mirrorings = MIRRORINGS
    mirrored = extractor._probability(image, shares.append)
    assert once.shape == image.shape
    np.testing.assert_allclose(once, 1 / (1 + np.exp(-image)), rtol=1e-5)
    np.testing.assert_allclose(mirrored, once, rtol=1e-5)
    assert shares == [(n + 1) / 8 for n in range(8)]


def test_constant_image_is_refused() -> None:
    volume = truth()
    with pytest.raises(BrainExtractionError, match="same value everywhere"):
        BrainExtractor().mask(volume.with_array(np.full(volume.array.shape, 7.0)))


def test_only_the_largest_component_stays() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[1:4, 1:4, 1:4] = True
    mask[6, 6, 6] = True
    assert largest_component(mask).sum() == 27
    assert largest_component(np.zeros((3, 3, 3), dtype=bool)).sum() == 0
