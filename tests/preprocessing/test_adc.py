"""The diffusion fit against signals made from a known ADC, and the scanner's map in every vendor's unit."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.adc import AdcError, adc_map, scanner_adc
from preprocessing.convert import convert_series
from tests.preprocessing import series

TRUTH = series.truth().with_array(np.random.default_rng(0).uniform(0.3e-3, 3e-3, (8, 20, 24)))


@pytest.mark.parametrize("b_values", [(0, 1000), (0, 500, 1000), (50, 800), (1000, 0), (0, 0, 2500)])
def test_noise_free_signal_gives_its_adc_back(b_values: tuple[float, ...]) -> None:
    volumes = [TRUTH.with_array(900 * np.exp(-b * TRUTH.array)) for b in b_values]
    np.testing.assert_allclose(adc_map(b_values, volumes).array, TRUTH.array, rtol=2e-4)


def test_voxel_without_signal_is_zero_and_noise_stays_in_range() -> None:
    low, high = TRUTH.with_array(np.full((8, 20, 24), 500.0)), TRUTH.with_array(np.full((8, 20, 24), 1e-3))
    low.array[0, 0, 0] = 0
    fitted = adc_map((0, 1000), (low, high)).array
    assert fitted[0, 0, 0] == 0
    assert fitted.max() == pytest.approx(5e-3)
    assert adc_map((0, 1000), (high, high)).array.max() == 0


def test_free_water_whose_signal_is_rounded_to_zero_keeps_a_large_adc() -> None:
    low, high = TRUTH.with_array(np.full((8, 20, 24), 1000.0)), TRUTH.with_array(np.full((8, 20, 24), 300.0))
    high.array[0, 0, :2] = (0, 1)
    fitted = adc_map((0, 2500), (low, high)).array
    assert fitted[0, 0, 0] > fitted[0, 0, 1] > 2.5e-3


def test_empty_volume_is_refused() -> None:
    with pytest.raises(AdcError, match="empty volume"):
        adc_map((0, 1000), (TRUTH, TRUTH.with_array(np.zeros((8, 20, 24)))))


@pytest.mark.parametrize("b_values", [(1000,), (0, 0), (0, 50)])
def test_b_values_that_say_nothing_are_refused(b_values: tuple[float, ...]) -> None:
    with pytest.raises(AdcError, match="b-values"):
        adc_map(b_values, [TRUTH] * len(b_values))


def test_volumes_on_different_grids_are_refused() -> None:
    other = series.truth(series.oblique(step=3.0))
    with pytest.raises(AdcError, match="different grids"):
        adc_map((0, 1000), (TRUTH, other))


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_scanner_map_in_any_unit(unit: float) -> None:
    np.testing.assert_allclose(scanner_adc(TRUTH.with_array(TRUTH.array / unit)).array, TRUTH.array, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 1e9])
def test_scanner_map_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(AdcError, match=r"ADC|no value"):
        scanner_adc(TRUTH.with_array(TRUTH.array * factor))


def test_our_fit_agrees_with_a_real_scanners_map() -> None:
    dwi = convert_series(sorted(series.shared("real", "siemens_xa30", "dwi").iterdir()))
    own = adc_map(dwi.b_values, dwi.volumes).array
    maps = convert_series(sorted(series.shared("real", "siemens_xa30", "adc").iterdir()))
    scanner = scanner_adc(maps.volumes[0]).array
    tissue = (scanner > 4e-4) & (scanner < 1.2e-3)
    difference = float(np.median(np.abs(own - scanner)[tissue] / scanner[tissue]))
    print(f"median ADC {np.median(own[tissue]) * 1e3:.3f}e-3 mm²/s, differs from the scanner's by {difference:.2%}")
    assert difference < 0.02
