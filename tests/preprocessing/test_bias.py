"""N4 against a known field."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from preprocessing.bias import BiasError, correct_bias
from tests.preprocessing import phantom


def test_known_field_is_removed_and_the_units_kept() -> None:
    t1, _, brain = phantom.head()
    coarse = np.random.default_rng(1).normal(0, 0.5, (3, 3, 3))
    log_field = ndimage.zoom(coarse, np.asarray(t1.array.shape) / 3, order=1)
    log_field = ndimage.uniform_filter(log_field, 41)  # no kinks
    log_field -= log_field[brain].mean()
    corrected = correct_bias(t1.with_array(t1.array * np.exp(log_field)), brain)
    signal = brain & (t1.array > 30)
    residual = np.log(corrected.array[signal] / t1.array[signal])
    print(f"log field: {log_field[signal].std():.3f} rms before, {residual.std():.3f} after N4")
    assert residual.std() < 0.35 * log_field[signal].std()
    assert abs(residual.mean()) < 0.03
    assert corrected.geometry == t1.geometry


def test_mask_without_signal_is_refused() -> None:
    t1, _, brain = phantom.head()
    with pytest.raises(BiasError, match="no signal inside the brain mask"):
        correct_bias(t1, np.zeros_like(brain))
