"""SimpleITK's N4 against a known field."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.bias import BiasError
from preprocessing.reference.bias import correct_bias
from tests.preprocessing import phantom
from tests.preprocessing.test_bias import smooth_field


def test_known_field_is_removed_and_the_units_kept() -> None:
    t1, _, brain = phantom.head()
    log_field = smooth_field(brain)
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
