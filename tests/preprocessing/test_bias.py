"""N4 against known fields, and its parts against closed form."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.bias import (
    ITERATIONS,
    LEVELS,
    BiasError,
    _along_axes,
    _basis,
    _refinement,
    _Splines,
    correct_bias,
    log_bias_field,
    sharpened,
)
from preprocessing.volume import Volume
from tests.preprocessing import phantom


def smooth_field(brain: NDArray[np.bool_], seed: int = 1) -> NDArray[np.floating]:
    coarse = np.random.default_rng(seed).normal(0, 0.5, (3, 3, 3))
    log_field = ndimage.zoom(coarse, np.asarray(brain.shape) / 3, order=1)
    log_field = ndimage.uniform_filter(log_field, 41)  # no kinks
    return np.asarray(log_field - log_field[brain].mean())


def test_known_field_is_removed_and_the_units_kept() -> None:
    t1, _, brain = phantom.head()
    log_field = smooth_field(brain)
    corrected = correct_bias(t1.with_array(t1.array * np.exp(log_field)), brain)
    signal = brain & (t1.array > 30)
    residual = np.log(corrected.array[signal] / t1.array[signal])
    print(f"log field: {log_field[signal].std():.3f} rms before, {residual.std():.3f} after N4")
    assert residual.std() < 0.25 * log_field[signal].std()
    assert abs(residual.mean()) < 0.03
    assert corrected.geometry == t1.geometry


def test_same_field_as_itk_on_the_same_voxels() -> None:
    t1, _, brain = phantom.head(2)
    thin = (slice(1, None, 4),) * 3
    found = [np.flatnonzero(brain[thin].any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(one[0], one[-1] + 1) for one in found)
    inside = np.ascontiguousarray(brain[thin][box])
    array = np.ascontiguousarray((t1.array * np.exp(smooth_field(brain, seed=2)))[thin][box], dtype=np.float32)
    inside &= array > 0
    ours = log_bias_field(torch.from_numpy(array), torch.from_numpy(inside), (4.0, 4.0, 4.0)).numpy()
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([ITERATIONS] * LEVELS)
    image = sitk.GetImageFromArray(array)
    n4.Execute(image, sitk.GetImageFromArray(inside.astype(np.uint8)))
    theirs = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    difference = (ours - theirs)[inside].std()
    print(f"log field {ours[inside].std():.4f} rms, ITK's is {difference:.4f} rms away")
    assert difference < 0.03 * ours[inside].std()


def test_field_has_geometric_mean_one_inside_the_brain() -> None:
    t1, _, brain = phantom.head()
    biased = t1.array * np.exp(smooth_field(brain))
    corrected = correct_bias(t1.with_array(biased), brain).array
    signal = brain & (biased > 0)
    assert abs(np.log(biased[signal] / corrected[signal]).mean()) < 1e-4


def test_scale_of_the_input_does_not_matter_and_the_result_is_the_same_every_time() -> None:
    t1, _, brain = phantom.head()
    once, again = (correct_bias(t1, brain).array for _ in range(2))
    np.testing.assert_array_equal(once, again)
    scaled = correct_bias(t1.with_array(t1.array * 8), brain).array
    np.testing.assert_allclose(scaled, once * 8, rtol=2e-3)


def test_number_of_threads_does_not_matter() -> None:
    t1, _, brain = phantom.head()
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(correct_bias(t1, brain).array)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_what_a_series_does_not_cover_stays_uncovered() -> None:
    t1, _, brain = phantom.head()
    array = t1.array.copy()
    array[:40] = np.nan
    corrected = correct_bias(t1.with_array(array), brain).array
    assert np.isnan(corrected[:40]).all()
    assert np.isfinite(corrected[40:]).all()


def test_constant_brain_has_no_field() -> None:
    t1, _, brain = phantom.head()
    flat = correct_bias(t1.with_array(np.full(brain.shape, 50.0)), brain)
    np.testing.assert_allclose(flat.array, 50.0, rtol=1e-5)


def test_mask_without_signal_is_refused() -> None:
    t1, _, brain = phantom.head()
    with pytest.raises(BiasError, match="no signal inside the brain mask"):
        correct_bias(t1, np.zeros_like(brain))
    dark = Volume(np.zeros_like(t1.array), t1.geometry)
    with pytest.raises(BiasError, match="no signal inside the brain mask"):
        correct_bias(dark, brain)


def test_scattered_voxels_are_no_brain() -> None:
    t1, _, _ = phantom.head()
    dots = np.zeros(t1.array.shape, dtype=bool)
    dots[60, 60, 60] = dots[100, 100, 100] = True
    with pytest.raises(BiasError, match="extent"):
        correct_bias(t1.with_array(t1.array + 1), dots)


@given(st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_refined_spline_is_the_same_curve(spans: int, seed: int) -> None:
    position = torch.linspace(0, 1, 37, dtype=torch.float64)
    curve = torch.randn(spans + 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    finer = _basis(position, 2 * spans) @ (_refinement(spans + 3) @ curve)
    torch.testing.assert_close(finer, _basis(position, spans) @ curve)


@given(st.integers(1, 8))
def test_splines_sum_to_one(spans: int) -> None:
    sums = _basis(torch.linspace(0, 1, 29, dtype=torch.float64), spans).sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_separable_fit_is_the_scattered_data_fit() -> None:
    """Equation 5 of Lee et al. written out voxel by voxel."""
    random = torch.Generator().manual_seed(3)
    shape = (5, 6, 4)
    bases = [_basis(torch.linspace(0, 1, n, dtype=torch.float64), 2) for n in shape]
    values = torch.randn(shape, dtype=torch.float64, generator=random)
    weight = (torch.rand(shape, generator=random) > 0.3).double()
    above, below = torch.zeros(5, 5, 5).double(), torch.zeros(5, 5, 5).double()
    for k, j, i in np.argwhere(weight.numpy() > 0):
        w = torch.einsum("a,b,c->abc", bases[0][k], bases[1][j], bases[2][i])
        above += w**2 * (w * values[k, j, i] / (w**2).sum())
        below += w**2
    expected = torch.where(below > 0, above / below, 0)
    torch.testing.assert_close(_Splines(bases, weight).fitted(values), expected)


def test_products_keep_the_order_of_the_axes() -> None:
    array = torch.arange(24.0).reshape(2, 3, 4)
    matrices = [torch.eye(2), 2 * torch.eye(3), torch.eye(4)]
    torch.testing.assert_close(_along_axes(array, matrices), 2 * array)


def test_sharpening_moves_blurred_values_towards_their_tissue() -> None:
    random = torch.Generator().manual_seed(5)
    tissue = torch.where(torch.rand(40_000, generator=random) > 0.5, 4.0, 5.0)
    blurred = tissue + 0.06 * torch.randn(40_000, generator=random)
    sharp = sharpened(blurred)
    assert (sharp - tissue).std() < 0.6 * (blurred - tissue).std()
