"""Training learns, and goes on after a kill to the same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import model.train
from model.cohort import Cohort, write_subject
from model.evaluate import evaluate
from model.losses import Loss
from model.network import Head
from model.rivals import extrapolated, fit_extrapolation, unchanged
from model.sampling import deterministic
from model.train import CHECKPOINT, TrainingError, computed_in, new_network, read_checkpoint, train
from model.training_settings import Architecture, TrainingSettings
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort, tiny_subject

SETTINGS = TrainingSettings(roles=ROLES, channels=4, epochs=2, half_precision=False, checkpoint_seconds=0)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny_cohort(tmp_path_factory.mktemp("cohort"), 4)


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, replace(SETTINGS, crop=16, batch=2, lesion_share=0.5, cosine_decay=True, gradient_limit=1e-3)],
)
def test_a_killed_run_resumes_to_the_same_numbers(cohort, tmp_path, settings):
    whole = train(cohort, settings, tmp_path / "whole")

    def kill(progress):
        if progress.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "killed", kill)
    steps = []
    resumed = train(cohort, settings, tmp_path / "killed", lambda progress: steps.append(progress.step))
    assert steps[0] == 4
    for (name, expected), got in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


def test_fp16_scales_its_loss_and_resumes_with_the_scale(tmp_path):
    subject = tiny_subject(1, side=48)
    write_subject(tmp_path / "cohort", "one", "head", ROLES, subject)
    cohort = Cohort.open(tmp_path / "cohort")
    settings = replace(SETTINGS, channels=2, head=Head.RESIDUAL, half_precision=True, fp16=True, epochs=3)
    whole = train(cohort, settings, tmp_path / "whole")

    def kill(progress):
        if progress.step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "killed", kill)
    told = torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True)["scaler"]
    assert told["scale"] > 1 and told["_growth_tracker"] == 2  # two steps without an overflow
    resumed = train(cohort, settings, tmp_path / "killed")
    first = new_network(settings)
    for name, expected in whole.state_dict().items():
        assert torch.equal(expected, resumed.state_dict()[name]), name
    assert not torch.equal(whole.last.weight, first.last.weight)


@pytest.mark.parametrize("changed", [{"crop": 16}, {"half_precision": True, "fp16": True}])
def test_the_fused_optimiser_of_a_gpu_resumes_to_the_same_numbers_and_takes_up_runs_without(
    tmp_path, monkeypatch, changed
):
    write_subject(tmp_path / "cohort", "one", "head", ROLES, tiny_subject(1, side=48))
    cohort = Cohort.open(tmp_path / "cohort")
    settings = replace(SETTINGS, channels=2, epochs=2, gradient_limit=1e-3, **changed)

    def kill(progress):
        if progress.step == 1:
            raise KilledError

    def resumed(out):
        train(cohort, settings, out)
        return read_checkpoint(out / CHECKPOINT)

    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "began without", kill)
    without = resumed(tmp_path / "without")["network"]
    monkeypatch.setattr(model.train, "_fused", lambda device: True)  # which a processor can, too
    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "killed", kill)
    whole, again, taken_up = (resumed(tmp_path / name) for name in ("whole", "killed", "began without"))
    for name, expected in whole["network"].items():
        assert torch.equal(expected, again["network"][name]), name
        torch.testing.assert_close(taken_up["network"][name], without[name], atol=1e-5, rtol=1e-3)
    assert [one["optimiser"]["param_groups"][0]["fused"] for one in (whole, again, taken_up)] == [True] * 3


def test_a_gpu_is_asked_for_kernels_that_add_in_a_fixed_order_while_it_trains(cohort, tmp_path, monkeypatch):
    asked = []

    def asked_for():
        return torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory

    reference = train(cohort, SETTINGS, tmp_path / "reference", lambda progress: asked.append(asked_for()))
    monkeypatch.setattr(model.train, "deterministic", lambda device: deterministic(torch.device("cuda")))
    as_on_gpu = train(cohort, SETTINGS, tmp_path / "gpu", lambda progress: asked.append(asked_for()))
    assert asked == [(False, True)] * 8 + [(True, False)] * 8
    assert asked_for() == (False, True)
    for name, expected in reference.state_dict().items():
        assert torch.equal(as_on_gpu.state_dict()[name], expected), name


def test_where_half_precision_is_wrong_the_numbers_are_those_of_fp32(tmp_path, monkeypatch):
    write_subject(tmp_path / "cohort", "one", "head", ROLES, tiny_subject(1, side=48))
    cohort = Cohort.open(tmp_path / "cohort")
    full = replace(SETTINGS, channels=2, epochs=2)
    half = replace(full, half_precision=True)
    reference, rounded = (train(cohort, one, tmp_path / name) for one, name in ((full, "full"), (half, "half")))
    monkeypatch.setattr(model.train, "half_precision_holds", lambda *arguments, **named: False)
    fallen_back = train(cohort, half, tmp_path / "fallen back")
    for name, expected in reference.state_dict().items():
        assert torch.equal(fallen_back.state_dict()[name], expected), name
    assert not torch.equal(rounded.last.weight, reference.last.weight)


@pytest.mark.parametrize(("began", "later"), [(True, False), (False, True)])
def test_a_run_stays_in_the_precision_that_it_began_in(tmp_path, monkeypatch, began, later):
    write_subject(tmp_path / "cohort", "one", "head", ROLES, tiny_subject(1, side=48))
    cohort = Cohort.open(tmp_path / "cohort")
    half = replace(SETTINGS, channels=2, epochs=3, half_precision=True)

    def verdict(holds):
        monkeypatch.setattr(model.train, "half_precision_holds", lambda *arguments, **named: holds)

    def kill(progress):
        if progress.step == 2:
            raise KilledError

    verdict(began)
    whole = train(cohort, half, tmp_path / "whole")
    assert computed_in(tmp_path / "whole") == ("bfloat16" if began else "float32",)
    with pytest.raises(KilledError):
        train(cohort, half, tmp_path / "killed", kill)
    verdict(later)
    if began:
        with pytest.raises(TrainingError, match="began in bfloat16"):
            train(cohort, half, tmp_path / "killed")
        return
    resumed = train(cohort, half, tmp_path / "killed")
    for name, expected in whole.state_dict().items():
        assert torch.equal(expected, resumed.state_dict()[name]), name


def test_the_verdict_on_half_precision_does_not_hang_on_the_weights_of_the_moment(tmp_path, monkeypatch):
    write_subject(tmp_path / "cohort", "one", "head", ROLES, tiny_subject(1, side=48))
    cohort = Cohort.open(tmp_path / "cohort")
    settings = replace(SETTINGS, channels=2, epochs=2, half_precision=True)
    asked = []

    def note(network, *arguments, **named):
        asked.append(network.last.weight.detach().clone())
        return True

    def kill(progress):
        raise KilledError

    monkeypatch.setattr(model.train, "half_precision_holds", note)
    with pytest.raises(KilledError):
        train(cohort, settings, tmp_path / "run", kill)
    checkpoint = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    del checkpoint["computed_in"]  # as it was before it was kept
    torch.save(checkpoint, tmp_path / "run" / CHECKPOINT)
    train(cohort, settings, tmp_path / "run")
    assert torch.equal(*asked)
    assert not torch.equal(asked[0], checkpoint["network"]["last.weight"])
    assert computed_in(tmp_path / "run") == ("bfloat16",)


def test_the_seed_decides_the_first_weights_and_leaves_torch_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = new_network(SETTINGS), new_network(SETTINGS)
    other = new_network(replace(SETTINGS, seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.last.weight, again.last.weight)
    assert not torch.equal(first.last.weight, other.last.weight)


def test_a_checkpoint_of_another_run_is_refused(cohort, tmp_path):
    train(cohort, replace(SETTINGS, epochs=1), tmp_path)
    with pytest.raises(TrainingError, match="another settings"):
        train(cohort, replace(SETTINGS, epochs=1, seed=1), tmp_path)
    with pytest.raises(TrainingError, match="another cohort"):
        train(cohort.split({"head_0"})[0], replace(SETTINGS, epochs=1), tmp_path)


def test_a_broken_checkpoint_says_what_to_do(cohort, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="delete it"):
        train(cohort, SETTINGS, tmp_path)
    for others in ({"state_dict": {}}, [1]):
        torch.save(others, tmp_path / CHECKPOINT)
        with pytest.raises(TrainingError, match="is not a checkpoint"):
            train(cohort, SETTINGS, tmp_path)


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_to_be_deleted(cohort, tmp_path):
    (tmp_path / CHECKPOINT).mkdir()
    with pytest.raises(TrainingError, match="cannot be read") as raised:
        train(cohort, SETTINGS, tmp_path)
    assert "delete" not in str(raised.value)


def test_an_empty_cohort_is_refused(cohort, tmp_path):
    with pytest.raises(TrainingError, match="no subject"):
        train(cohort.split(cohort.anatomies)[0], SETTINGS, tmp_path)


def test_divergence_is_said(cohort, tmp_path):
    with pytest.raises(TrainingError, match="learning_rate"):
        train(cohort, replace(SETTINGS, learning_rate=float("inf")), tmp_path)


def test_half_precision_is_refused_where_its_gradients_are_wrong(cohort, tmp_path):
    with pytest.raises(TrainingError, match="48 voxels"):
        train(cohort, replace(SETTINGS, half_precision=True), tmp_path)


def test_a_crop_larger_than_the_volumes_is_refused(cohort, tmp_path):
    with pytest.raises(TrainingError, match="crop of 48 voxels is larger than these volumes, 32 × 32 × 32"):
        train(cohort, replace(SETTINGS, crop=48), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": 40}, {"crop": 0}, {"crop": -16}, {"epochs": 0}, {"batch": 0}, {"channels": 0}, {"roles": ()},
        {"roles": (Role.T1, Role.T1)}, {"lesion_share": 1.5}, {"learning_rate": float("nan")}, {"gradient_limit": 0.0},
        {"loss": Loss.LIKELIHOOD}, {"architecture": Architecture.KLEESIEK},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        TrainingSettings(**settings)


@pytest.mark.timeout(900)  # 25 s of processor time; a crowded machine may take long over that
def test_a_tiny_network_beats_both_trivial_answers_on_unseen_volumes(tmp_path):
    cohort = tiny_cohort(tmp_path / "train", 16)
    unseen = tiny_cohort(tmp_path / "test", 6, first_seed=100)
    settings = replace(
        SETTINGS, head=Head.RESIDUAL, learning_rate=3e-3, epochs=12, cosine_decay=True, checkpoint_seconds=60
    )
    network = train(cohort, settings, tmp_path / "run")

    def learned(inputs, brain):
        with torch.inference_mode():
            return network(torch.from_numpy(inputs)[None])[0, 0].numpy()

    k = fit_extrapolation(cohort)
    ours, nothing, linear = (
        evaluate(name, method, unseen)
        for name, method in (
            ("network", learned),
            ("nothing", lambda inputs, brain: unchanged(inputs, ROLES)),
            ("linear", lambda inputs, brain: extrapolated(inputs, ROLES, k)),
        )
    )
    print({result.method: (result.brain.psnr, result.brain.t_l2) for result in (ours, nothing, linear)})
    best = max(nothing.brain.psnr.mean, linear.brain.psnr.mean)
    assert ours.brain.psnr.mean > best + 0.5
    assert ours.brain.t_l2.mean < min(nothing.brain.t_l2.mean, linear.brain.t_l2.mean)
    assert np.isfinite(ours.brain.ssim.mean)
