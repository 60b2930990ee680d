"""A cohort on the training device gives the very numbers that the disk gives."""

from dataclasses import replace

import pytest
import torch

import model.train
from model.resident import SHARE, ResidentCohort, fits
from model.sampling import draw, load
from model.train import train
from model.training_settings import TrainingSettings
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(roles=ROLES, channels=2, epochs=2, batch=2, crop=16, half_precision=False)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny_cohort(tmp_path_factory.mktemp("cohort"), 4)


@pytest.mark.parametrize("crop", [None, 16])
@pytest.mark.parametrize("shared_scale", [False, True])
def test_what_is_loaded_is_what_the_disk_holds(cohort, crop, shared_scale):
    resident = ResidentCohort(cohort, CPU, shared_scale=shared_scale)
    for step in range(4):
        examples = draw(cohort, 0, step, 2, crop, 0.5)
        ours, theirs = resident.load(examples, crop), load(cohort, examples, crop, shared_scale=shared_scale)
        for mine, disk in zip(ours, theirs, strict=True):
            assert mine.dtype == disk.dtype
            assert torch.equal(mine, disk)


def test_only_the_roles_that_are_trained_on_are_there(cohort):
    inputs, targets = ResidentCohort(cohort.with_roles([Role.LOW_DOSE]), CPU, shared_scale=False).load(
        draw(cohort, 0, 0, 1, None, 0), None
    )
    assert (inputs.shape[:2], targets.shape[:2], inputs.dtype) == ((1, 1), (1, 1), torch.float16)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, crop=None, shared_scale=True)])
def test_a_training_comes_to_the_same_weights(cohort, tmp_path, monkeypatch, settings):
    from_disk = train(cohort, settings, tmp_path / "disk")
    monkeypatch.setattr(model.train, "fits", lambda *arguments, **named: True)
    from_device = train(cohort, settings, tmp_path / "device")
    for name, expected in from_disk.state_dict().items():
        assert torch.equal(from_device.state_dict()[name], expected), name


@pytest.mark.parametrize(("shared_scale", "bytes_per_voxel"), [(False, 2 * 2 + 2), (True, 4 * 2 + 2)])
def test_it_is_loaded_where_there_is_room(cohort, monkeypatch, shared_scale, bytes_per_voxel):
    held = sum(
        volume.nbytes
        for record in cohort.subjects
        for volume in ResidentCohort(cohort, CPU, shared_scale=shared_scale)._volumes[record.name]
    )
    assert held == 4 * 32**3 * bytes_per_voxel
    assert not fits(cohort, CPU, shared_scale=shared_scale)  # the system keeps the mapped files already
    cuda = torch.device("cuda")  # there is none here: only its free memory is made up
    for spare, expected in ((16, True), (-16, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda spare=spare: (held / SHARE + spare, 0))
        assert fits(cohort, cuda, shared_scale=shared_scale) is expected


@pytest.mark.parametrize(("local_rank", "sharers"), [(0, 3), (1, 2), (2, 3)])  # five processes on two GPUs
def test_processes_that_share_a_gpu_share_its_room(cohort, monkeypatch, local_rank, sharers):
    needed = 4 * 32**3 * (2 * 2 + 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "some", "LOCAL_RANK": str(local_rank), "LOCAL_WORLD_SIZE": "5"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for spare, expected in ((16, True), (-16, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda spare=spare: (sharers * needed / SHARE + spare, 0))
        assert fits(cohort, torch.device("cuda"), shared_scale=False) is expected
