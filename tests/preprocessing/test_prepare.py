"""Whole preparations: a real patient, and a real volunteer from the scanner's own DICOM files."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from preprocessing.adc import adc_map
from preprocessing.convert import convert_series
from preprocessing.grid import NETWORK_GRID, template
from preprocessing.native import native
from preprocessing.nifti import read_nifti
from preprocessing.prepare import PreparationError, PreparationSettings, prepare, prepare_in_brain
from preprocessing.processor import one_torch_thread, use_threads
from preprocessing.resample import resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role, Volume
from tests.preprocessing import phantom
from tests.preprocessing.series import shared, truth

Prepared = tuple[dict[Role, Volume], PreparedStudy, list[tuple[str, float]]]


@pytest.fixture(scope="module")
def glioma() -> Prepared:
    folder = shared("real", "glioma_tcga_fg_6692")
    t1, flair, full = (read_nifti(folder / f"{name}.nii.gz") for name in ("t1", "flair", "t1ce"))
    noise = np.random.default_rng(0).normal(0, 8, (2, *t1.array.shape))
    low = t1.with_array(np.hypot(t1.array + 0.05 * t1.array + noise[0], noise[1]))
    volumes = {Role.T1: t1, Role.FLAIR: flair, Role.LOW_DOSE: low, Role.FULL_DOSE: full}
    steps: list[tuple[str, float]] = []
    return volumes, prepare(volumes, PreparationSettings(), lambda name, share: steps.append((name, share))), steps


def agreement(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """How alike the edges of two images are, whatever their contrast: correlation of gradient magnitudes."""
    edges = [ndimage.gaussian_gradient_magnitude(image.astype(float), 2)[mask] for image in (a, b)]
    return float(np.corrcoef(edges)[0, 1])


def test_the_network_input_is_as_the_paper_says(glioma: Prepared) -> None:
    _, study, _ = glioma
    assert study.channels == (Role.T1, Role.FLAIR, Role.LOW_DOSE)
    assert study.input.shape == (3, 160, 192, 160)
    assert study.input.dtype == np.float32
    assert not study.input[:, ~study.brain].any()
    for role, channel in zip(study.channels, study.input, strict=True):
        z = channel[study.brain] * 10 - 3
        assert abs(z.mean()) < 0.1, role
        assert abs(z.std() - 1) < 0.15, role
    assert study.target is not None
    assert study.target[study.brain].max() > 0.9


def test_the_brain_lies_on_the_template(glioma: Prepared) -> None:
    _, study, _ = glioma
    target = resample(template(), like=NETWORK_GRID).array > 0
    overlap = 2 * (study.brain & target).sum() / (study.brain.sum() + target.sum())
    print(f"brain of the real glioma on the template's: Dice {overlap:.3f}")
    assert overlap > 0.9


def test_every_series_lies_on_the_t1(glioma: Prepared) -> None:
    """FLAIR and full dose were taken in other poses, 16 mm and 8° away: unaligned edges do not agree."""
    volumes, study, _ = glioma
    inner = ndimage.binary_erosion(study.brain, iterations=6)
    for role, image in ((Role.FLAIR, study.input[1]), (Role.FULL_DOSE, study.target)):
        assert image is not None
        unaligned = resample(volumes[role], like=NETWORK_GRID, transform=study.transforms[Role.T1]).array
        before, after = agreement(unaligned, study.input[0], inner), agreement(image, study.input[0], inner)
        print(f"agreement of edges, {role} and T1: {before:.2f} in scanner coordinates, {after:.2f} prepared")
        assert after > before + 0.1


def test_a_series_that_did_not_move_is_not_moved(glioma: Prepared) -> None:
    _, study, _ = glioma
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-60, 90) for z in (-50, 70)]).T
    between = study.transforms[Role.LOW_DOSE] - study.transforms[Role.T1]
    shift = np.linalg.norm((between @ corners)[:3], axis=0)
    print(f"the low-dose series, which did not move, was moved by {shift.max():.3f} mm at most")
    assert shift.max() < 0.3


def test_the_low_dose_series_comes_back(glioma: Prepared) -> None:
    volumes, study, _ = glioma
    low = volumes[Role.LOW_DOSE]
    back = native(study.input[2], study, low.geometry)
    brain = ndimage.binary_erosion(back.array > 0, iterations=2)
    error = (back.array - low.array)[brain] / study.scales[Role.LOW_DOSE].sd
    correlation = np.corrcoef(back.array[brain], low.array[brain])[0, 1]
    print(f"round trip of the low-dose series: correlation {correlation:.3f}, median error {np.median(error):.3f} sd")
    assert back.geometry == low.geometry
    assert correlation > 0.85
    assert abs(np.median(error)) < 0.2


def test_progress_only_rises_and_ends(glioma: Prepared) -> None:
    _, _, steps = glioma
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert steps[-1] == ("prepared", 1.0)


def test_real_enhanced_dicom_is_prepared_with_its_adc() -> None:
    folders = {name: sorted(shared("real", "siemens_xa30", name).iterdir()) for name in ("t1", "dwi")}
    t1, dwi = convert_series(folders["t1"]).volumes[0], convert_series(folders["dwi"])
    volumes = {
        Role.T1: t1, Role.LOW_DOSE: t1, Role.DWI: dwi.volumes[0], Role.ADC: adc_map(dwi.b_values, dwi.volumes),
    }  # fmt: skip
    study = prepare(volumes, PreparationSettings(), lambda name, share: None)
    assert study.channels == (Role.T1, Role.ADC, Role.LOW_DOSE)
    adc = study.scales[Role.ADC].from_unit(study.input[1])
    t1_unit = study.input[0]
    white = study.brain & (t1_unit > np.percentile(t1_unit[study.brain], 80)) & (study.input[1] > 0)
    print(f"ADC in the brightest fifth of the T1 (white matter): {np.median(adc[white]) * 1e3:.2f}e-3 mm²/s")
    assert 0.55e-3 < np.median(adc[white]) < 0.9e-3
    np.testing.assert_allclose(study.input[2], study.input[0], atol=0.02)


def test_fast_and_reference_make_the_same_input() -> None:
    t1, flair, brain = phantom.head()
    true = phantom.moved((3, -2, 4), (4, -3, 6), np.zeros(3))
    scan = phantom.scanned(flair, brain, true, (0.9, 0.9, 5.0), (256, 256, 32))
    volumes = {Role.T1: t1, Role.LOW_DOSE: scan}
    fast, slow = (
        prepare_in_brain(volumes, brain, PreparationSettings(method=method), lambda name, share: None)
        for method in ("fast", "reference")
    )
    inside = ndimage.binary_erosion(fast.brain & slow.brain, iterations=3)
    apart = [np.linalg.norm((fast.transforms[r] - slow.transforms[r]) @ (0, 15, 5, 1)) for r in fast.channels]
    print(f"fast and reference are {max(apart):.2f} mm apart at the grid's centre")
    assert max(apart) < 2.0
    for role, ours, theirs in zip(fast.channels, fast.input, slow.input, strict=True):
        assert np.corrcoef(ours[inside], theirs[inside])[0, 1] > 0.9, role
        assert abs(np.median((ours - theirs)[inside])) < 0.03, role


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_than_configured(threads: int) -> None:
    use_threads(threads)
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads


@pytest.mark.parametrize("role", [Role.T1, Role.LOW_DOSE])
def test_study_without_a_required_series_is_refused(role: Role) -> None:
    volumes = {other: truth() for other in (Role.T1, Role.LOW_DOSE) if other is not role}
    with pytest.raises(PreparationError, match=f"no {role} series"):
        prepare(volumes, PreparationSettings(), lambda name, share: None)
