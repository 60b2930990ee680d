"""The weights that ship: whole, small enough, and better than the answers that need no learning, by their own cards."""

import pytest

from model.store import WEIGHTS, Model, model_folders

FOLDERS = model_folders()


def test_they_fit_into_the_repository():
    assert sum((folder / WEIGHTS).stat().st_size for folder in FOLDERS) <= 20e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_loads_and_its_card_says_it_beats_its_rivals(folder):
    model = Model.load(folder, "cpu")
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert model.card.name == folder.name
    ours, *rivals = model.card.results
    assert len(rivals) == 3
    for rival in rivals:
        assert ours.brain.psnr.mean > rival.brain.psnr.mean
        assert ours.brain.ssim.mean > rival.brain.ssim.mean
        assert ours.brain.t_l2.mean < rival.brain.t_l2.mean
