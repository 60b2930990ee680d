"""The figures against hand-computed values, scikit-image, torchmetrics and MONAI."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric, SSIMMetric
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim
from torchmetrics.image import PeakSignalNoiseRatio as TorchPsnr

from model.metrics import l2, psnr, score, ssim
from model.metrics import structural_similarity as our_structural_similarity


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    target = random.random((24, 28, 26)).astype(np.float32)
    virtual = np.clip(target + 0.1 * random.normal(size=target.shape), 0, 1).astype(np.float32)
    return virtual, target


def test_by_hand():
    target = np.zeros((16, 16, 16), np.float32)
    virtual = np.full_like(target, 0.1)
    virtual[0] = 0.3
    lesion = np.zeros(target.shape, bool)
    lesion[0] = True
    scores = score(virtual, target, lesion)
    assert scores.l2 == pytest.approx((0.09 + 15 * 0.01) / 16)
    assert scores.t_l2 == pytest.approx(0.09)
    assert scores.psnr == pytest.approx(10 * math.log10(16 / 0.24))
    assert score(virtual, target, lesion, lesion).l2 == pytest.approx(0.09)


def test_the_papers_own_figures_fit_a_range_of_one():
    assert psnr(31.6e-5) == pytest.approx(35.0, abs=0.01)


def test_equal_images():
    image = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    scores = score(image, image, np.zeros(image.shape, bool))
    assert scores.l2 == 0
    assert math.isnan(scores.t_l2)
    assert scores.psnr == math.inf
    assert scores.ssim == pytest.approx(1)


def test_against_scikit_image(pair):
    virtual, target = pair
    assert l2(virtual, target) == pytest.approx(mean_squared_error(target, virtual))
    assert psnr(l2(virtual, target)) == pytest.approx(peak_signal_noise_ratio(target, virtual, data_range=1))
    _, index = structural_similarity(
        target, virtual, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    np.testing.assert_allclose(our_structural_similarity(virtual, target), index, atol=1e-4)
    assert ssim(virtual, target) == pytest.approx(index.mean(), abs=1e-6)
    domain = np.zeros(target.shape, bool)
    domain[5:-5, 5:-5, 5:-5] = True
    inside = structural_similarity(
        target, virtual, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(virtual, target, domain) == pytest.approx(inside, abs=1e-5)


def test_shapes_that_differ_are_refused(pair):
    virtual, target = pair
    with pytest.raises(ValueError, match="lesion"):
        score(virtual, target, np.zeros((2, 2, 2), bool))


def test_against_torchmetrics_and_monai(pair):
    virtual, target = (torch.from_numpy(image)[None, None] for image in pair)
    assert psnr(l2(*pair)) == pytest.approx(TorchPsnr(data_range=1.0)(virtual, target).item(), rel=1e-5)
    assert psnr(l2(*pair)) == pytest.approx(PSNRMetric(max_val=1.0)(virtual, target).item(), rel=1e-5)
    inside = np.zeros(pair[0].shape, bool)
    inside[5:-5, 5:-5, 5:-5] = True  # windows that lie wholly inside the image: each library has its own border
    _, index = torch_ssim(virtual, target, data_range=1.0, sigma=1.5, return_full_image=True)
    assert ssim(*pair, inside) == pytest.approx(index[0, 0].numpy()[inside].mean(), abs=1e-5)
    monai = SSIMMetric(spatial_dims=3, data_range=1.0, kernel_type="gaussian", win_size=11, kernel_sigma=1.5)
    assert ssim(*pair, inside) == pytest.approx(monai(virtual, target).item(), abs=1e-4)


def test_an_image_that_is_not_finite_has_no_figures():
    target = np.zeros((8, 8, 8), np.float32)
    virtual = target.copy()
    virtual[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="training has diverged"):
        score(virtual, target, np.zeros(target.shape, bool))
