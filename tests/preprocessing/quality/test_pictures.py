"""Artefacts of one series: each measure hears its own fault, and not what a good image has."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from preprocessing.grid import NETWORK_GRID
from preprocessing.quality.ghosting import ghosting
from preprocessing.quality.noise import noise, signal_to_noise
from preprocessing.quality.shape import brain_of_template
from preprocessing.quality.spikes import spikes
from preprocessing.quality.surroundings import Surroundings, surroundings, white_matter
from preprocessing.quality.wrap import wrap_around
from preprocessing.resample import resample
from preprocessing.volume import Geometry, Volume

WHITE, SIGMA = 400.0, 12.0
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
VIEW = Geometry((128, 128, 48), (-128.0, -108.0, -90.0), (2.0, 2.0, 4.0), UPRIGHT)


@cache
def signal() -> NDArray[np.float32]:
    """A head of one signal around the template's brain, without noise."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in VIEW.size[::-1]), indexing="ij")
    point = [VIEW.origin[axis] + index * VIEW.spacing[axis] for axis, index in enumerate((i, j, k))]
    inside = (point[0] / 82) ** 2 + ((point[1] - 17) / 102) ** 2 + ((point[2] - 5) / 100) ** 2 < 1
    return np.where(inside, WHITE, 0).astype(np.float32)


def scanned(clean: NDArray[np.complexfloating | np.floating], view: Geometry = VIEW) -> Volume:
    rng = np.random.default_rng(7)
    noisy = clean + SIGMA * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
    return Volume(np.abs(noisy).astype(np.float32), view, "head")


def seen(volume: Volume) -> Surroundings:
    return surroundings(volume, brain_of_template(), np.eye(4))


def test_noise_is_that_which_was_added():
    around = seen(scanned(signal()))
    assert noise(around) == pytest.approx(SIGMA, rel=0.05)
    assert signal_to_noise(around) == pytest.approx(WHITE / SIGMA, rel=0.05)


@pytest.mark.parametrize("rows", [128, 24], ids=["all of it", "an edge of it"])
def test_a_masked_background_says_that_nothing_is_known_rather_than_that_all_is_well(rows: int):
    masked = scanned(signal())
    silent = (signal() == 0) & (np.arange(128) < rows)[None, :, None]
    masked = masked.with_array(np.where(silent, 0, masked.array))
    around = seen(masked)
    assert around.masked
    assert np.isnan(signal_to_noise(around))
    assert np.isnan(ghosting(around))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ghost_is_heard_along_any_axis_and_grows_with_its_strength(axis: int):
    heard = []
    for strength in (0.0, 0.1, 0.3):
        ghost = np.roll(signal(), signal().shape[axis] // 3, axis=axis) * strength
        heard.append(ghosting(seen(scanned(signal() + ghost))))
    assert heard[0] < 3 < heard[1] < heard[2]


def test_wrap_around_is_the_area_of_head_at_the_border():
    assert wrap_around(seen(scanned(signal()))) == 0
    narrow = signal()[:, 24:-24].copy()
    narrow[:, -24:] += signal()[:, :24]
    narrow[:, :24] += signal()[:, -24:]
    origin = (VIEW.origin[0], VIEW.origin[1] + 48.0, VIEW.origin[2])
    view = Geometry((128, 80, 48), origin, VIEW.spacing, UPRIGHT)
    assert wrap_around(seen(scanned(narrow, view))) > 50


@pytest.mark.parametrize("slices", [slice(None), slice(20, 21)], ids=["of the volume", "of one slice"])
def test_a_spike_stands_out_and_noise_and_anatomy_do_not(slices: slice):
    quiet = spikes(scanned(signal()).array)
    j, i = np.ogrid[: VIEW.size[1], : VIEW.size[0]]
    wave = np.exp(2j * np.pi * (41 * j / VIEW.size[1] + 30 * i / VIEW.size[0]))
    spoiled = signal().astype(complex)
    spoiled[slices] += 0.15 * WHITE * wave
    assert quiet < 8
    assert spikes(scanned(spoiled).array) > quiet + 6


def test_zero_filled_k_space_has_no_spikes():
    spectrum = np.fft.fftshift(np.fft.fft2(scanned(signal()).array), axes=(1, 2))
    spectrum[:, :32], spectrum[:, -32:], spectrum[:, :, :32], spectrum[:, :, -32:] = 0, 0, 0, 0
    assert spikes(np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2)))).astype(np.float32)) < 10


def test_white_matter_is_found_through_the_template():
    volume = scanned(signal())
    assert white_matter(volume, brain_of_template(), np.eye(4)) == pytest.approx(WHITE, rel=0.02)
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 1000.0
    assert np.isnan(white_matter(volume, brain_of_template(), elsewhere))


def test_the_template_lies_on_the_network_grid_as_it_should():
    assert 1.2e6 < brain_of_template().sum() < 2.2e6
    assert resample(scanned(signal()), like=NETWORK_GRID).array[brain_of_template()].mean() > 0.9 * WHITE
