"""What differs from the paper: losses, heads, the shared scale, and the rivals' networks. Each trains and resumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from model.intensity import line_to_t1, on_t1_scale
from model.losses import ENHANCEMENT_WEIGHT, HUBER_DELTA, Loss, loss_of, mean_ssim
from model.metrics import ssim
from model.network import Head
from model.rival_networks import GongNetwork
from model.synthesise import average_flips
from model.train import new_network, train
from model.training_settings import Architecture, TrainingSettings
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort, tiny_subject

PAPER = TrainingSettings(roles=ROLES, channels=4, epochs=1, crop=16, half_precision=False, checkpoint_seconds=0)
VARIANTS = {
    "gong": replace(PAPER, architecture=Architecture.GONG, loss=Loss.L1),
    "kleesiek": replace(PAPER, architecture=Architecture.KLEESIEK, loss=Loss.LIKELIHOOD, roles=(Role.T1,)),
    "difference": replace(PAPER, head=Head.DIFFERENCE),
    "shared scale": replace(PAPER, shared_scale=True),
    "ssim": replace(PAPER, loss=Loss.L2_SSIM),
}


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny_cohort(tmp_path_factory.mktemp("cohort"), 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_resumes_to_the_same_numbers(cohort, tmp_path, name):
    settings = VARIANTS[name]
    whole = train(cohort, settings, tmp_path / "whole")
    start = new_network(settings)
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), whole.parameters(), strict=True))

    def kill(progress):
        if progress.step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "killed", kill)
    resumed = train(cohort, settings, tmp_path / "killed")
    for (where, expected), got in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, got), where


def test_the_identity_tells_settings_apart_but_not_how_often_they_are_saved():
    identities = {settings.identity for settings in (PAPER, *VARIANTS.values(), replace(PAPER, seed=1))}
    assert len(identities) == len(VARIANTS) + 2
    assert replace(PAPER, checkpoint_seconds=5).identity == PAPER.identity


@pytest.mark.parametrize(
    "settings", [{"head": Head.DIFFERENCE}, {"shared_scale": True}, {"loss": Loss.ENHANCEMENT}, {"head": Head.RESIDUAL}]
)
def test_a_variant_without_its_inputs_is_refused(settings):
    with pytest.raises(ValueError, match="needs"):
        TrainingSettings(roles=(Role.FLAIR,), **settings)


def test_without_a_low_dose_the_residual_head_starts_from_t1():
    network = new_network(TrainingSettings(roles=(Role.FLAIR, Role.T1), channels=8, head=Head.RESIDUAL)).eval()
    inputs = torch.rand((1, 2, 16, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        virtual = network(inputs)
    assert (virtual - inputs[:, 1:]).abs().mean() < 0.02 < (virtual - inputs[:, :1]).abs().mean()


def test_losses_by_hand():
    target, t1 = torch.tensor([0.5, 0.2]).view(1, 1, 1, 1, 2), torch.tensor([0.2, 0.2]).view(1, 1, 1, 1, 2)
    virtual = target + torch.tensor([0.1, -0.02]).view(1, 1, 1, 1, 2)
    expected = {
        Loss.L2: (0.01 + 0.0004) / 2,
        Loss.L1: 0.06,
        Loss.HUBER: (HUBER_DELTA * (0.1 - HUBER_DELTA / 2) + 0.0002) / 2,
        Loss.ENHANCEMENT: (0.01 * (1 + ENHANCEMENT_WEIGHT * 0.3) + 0.0004) / 2,
    }
    for kind, value in expected.items():
        assert loss_of(kind, virtual, target, t1).item() == pytest.approx(value, rel=1e-4), kind
    log_variance = torch.full_like(target, -4.0)
    told = loss_of(Loss.LIKELIHOOD, torch.cat((virtual, log_variance), dim=1), target).item()
    assert told == pytest.approx(0.5 * (0.0052 * np.exp(4) - 4), rel=1e-4)


def test_the_ssim_in_the_loss_is_the_one_that_is_reported():
    random = np.random.default_rng(0)
    target = random.random((16, 18, 20)).astype(np.float32)
    virtual = (target + 0.1 * random.normal(size=target.shape)).astype(np.float32)
    a, b = (torch.from_numpy(image)[None, None] for image in (virtual, target))
    assert mean_ssim(a, b).item() == pytest.approx(ssim(virtual, target), abs=1e-5)


def test_the_ssim_term_is_right_where_fp32_convolutions_multiply_in_tf32(monkeypatch):
    convolve = functional.conv3d

    def rounded(values):
        if values.dtype is not torch.float32:
            return values
        bits = values.contiguous().view(torch.int32)  # 10 bits of the 23 are left
        return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)

    monkeypatch.setattr(functional, "conv3d", lambda image, window: convolve(rounded(image), rounded(window)))
    subject = tiny_subject(1)
    low, full = (image.astype(np.float32) for image in (subject.input[1], subject.target))
    told = mean_ssim(*(torch.from_numpy(image)[None, None] for image in (low, full)))
    assert told.item() == pytest.approx(ssim(low, full), abs=1e-6)
    assert told.dtype is torch.float32


def test_low_dose_comes_to_t1s_scale_whatever_its_own_and_enhancement_stays():
    random = np.random.default_rng(0)
    t1 = random.uniform(0.2, 0.6, (20, 20, 20))
    brain = np.ones(t1.shape, bool)
    enhancing = np.zeros(t1.shape, bool)
    enhancing[:5, :8, :8] = True
    same_scale = t1 + 0.15 * enhancing
    low_dose = 0.8 * same_scale + 0.1
    line = line_to_t1(t1, low_dose, brain)
    assert (line.slope, line.offset) == pytest.approx((1.25, -0.125), abs=1e-3)
    shared = on_t1_scale(np.stack((t1, low_dose)), ROLES, line)
    np.testing.assert_allclose(shared[1], same_scale, atol=1e-3)
    np.testing.assert_array_equal(shared[0], t1.astype(np.float32))
    with pytest.raises(ValueError, match="constant"):
        line_to_t1(t1, np.full_like(t1, 0.3), brain)


def test_gong_sees_two_slices_on_each_side_and_no_more():
    torch.manual_seed(0)
    network = GongNetwork(2, 4, low_dose_channel=1).eval()
    torch.nn.init.normal_(network.last.weight)
    volumes = torch.rand(1, 2, 16, 16, 16)
    changed = volumes.clone()
    changed[:, 0, 8] += 1
    with torch.inference_mode():
        differs = (network(changed) - network(volumes)).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_a_bayesian_answer_repeats_and_its_uncertainty_holds_the_learned_variance():
    network = new_network(VARIANTS["kleesiek"]).eval()
    torch.nn.init.constant_(network.last.bias, -2.0)
    torch.nn.init.zeros_(network.last.weight)
    inputs = tiny_subject(1).input[:1].astype(np.float32)
    mean, deviation = average_flips(network, inputs, half_precision=False)
    np.testing.assert_allclose(deviation, np.exp(-1.0), rtol=1e-4)
    torch.nn.init.normal_(network.last.weight)
    first, again = (average_flips(network, inputs, half_precision=False) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], mean)
