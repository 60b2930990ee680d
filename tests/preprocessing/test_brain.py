"""HD-BET in our runner against HD-BET's own mask of a real patient."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.brain import BrainExtractionError, BrainExtractor, dice, largest_component
from preprocessing.nifti import read_nifti
from tests.preprocessing.series import shared, truth


def test_real_patient() -> None:
    folder = shared("real", "glioma_tcga_fg_6692")
    reference = read_nifti(folder / "t1_hdbet_mask.nii.gz").array > 0.5
    shares: list[float] = []
    mask = BrainExtractor().mask(read_nifti(folder / "t1.nii.gz"), shares.append)
    overlap = dice(mask, reference)
    print(f"HD-BET fold 0 against the reference mask of the real glioma: Dice {overlap:.4f}")
    assert overlap >= 0.95
    assert shares == [1.0]


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
