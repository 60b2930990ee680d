"""Watching a training shows it and changes nothing."""

from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.losses import Loss
from model.train import train
from model.training_settings import Architecture, TrainingSettings
from model.watch import Watch

from .tiny import ROLES, tiny_cohort

SETTINGS = TrainingSettings(roles=ROLES, channels=2, epochs=3, crop=16, half_precision=False)
GONG = replace(SETTINGS, architecture=Architecture.GONG, loss=Loss.L1)  # its batch statistics must not be touched


@pytest.mark.parametrize("settings", [replace(SETTINGS, shared_scale=True), GONG])
def test_watched_or_not_the_numbers_are_the_same(tmp_path, settings):
    cohort = tiny_cohort(tmp_path / "cohort", 2)
    losses = []
    watch = Watch(cohort, settings, tmp_path / "watch", tensorboard=True)

    def told(progress):
        losses.append(progress.loss)
        watch(progress)

    watched = train(cohort, settings, tmp_path / "watched", told)
    alone = train(cohort, settings, tmp_path / "alone")
    for (name, expected), got in zip(alone.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name

    pictures = sorted(path.name for path in (tmp_path / "watch").glob("*.png"))
    assert pictures == ["preview-000002.png", "preview-000004.png", "preview-000006.png"]  # epochs 1 and 2, and the end
    events = EventAccumulator(str(tmp_path / "watch" / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
