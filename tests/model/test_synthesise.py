"""Eight flips, averaged exactly; the processor's fast way agrees with the exact one."""

import numpy as np
import pytest
import torch

from model.store import Model
from model.synthesise import FLIPS, synthesise

from .test_store import write_model
from .tiny import ROLES, tiny_subject


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    loaded = Model.load(folder, "cpu")
    loaded.network.last.weight.mul_(100)  # undo the small start, so that the network matters
    return loaded


@pytest.fixture(scope="module")
def study():
    subject = tiny_subject(1)
    return subject.input.astype(np.float32), subject.brain


def test_all_eight_flips_each_once():
    assert len(set(FLIPS)) == 8


def test_the_answer_is_the_mean_of_the_flips_and_their_spread(model, study):
    inputs, brain = study
    told = []
    synthesis = synthesise(model, inputs, brain, lambda done, all_: told.append((done, all_)), full_precision=True)
    answers = []
    for flips in FLIPS:
        with torch.inference_mode():
            flipped = torch.from_numpy(np.flip(inputs, flips).copy() if flips else inputs)[None]
            answer = model.network(flipped)[0, 0].numpy()
        answers.append(np.flip(answer, flips) if flips else answer)
    np.testing.assert_allclose(synthesis.virtual[brain], np.mean(answers, axis=0)[brain], atol=1e-5)
    np.testing.assert_allclose(synthesis.uncertainty[brain], np.std(answers, axis=0)[brain], atol=1e-5)
    assert synthesis.uncertainty[brain].mean() > 1e-3
    assert told == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize("axes", [(1,), (2, 3), (1, 2, 3)])
def test_flipping_the_input_flips_the_answer(model, study, axes):
    inputs, brain = study
    spatial = tuple(axis - 1 for axis in axes)
    plain = synthesise(model, inputs, brain, full_precision=True)
    flipped = synthesise(model, np.flip(inputs, axes), np.flip(brain, spatial), full_precision=True)
    np.testing.assert_allclose(flipped.virtual, np.flip(plain.virtual, spatial), atol=1e-5)
    np.testing.assert_allclose(flipped.uncertainty, np.flip(plain.uncertainty, spatial), atol=1e-5)


def test_range_mask_types_and_identity(model, study):
    inputs, brain = study
    synthesis = synthesise(model, inputs, brain)
    for image in (synthesis.virtual, synthesis.uncertainty):
        assert image.dtype == np.float32
        assert image.shape == brain.shape
        assert (image[~brain] == 0).all()
        assert image.min() >= 0
        assert image.max() <= 1
    assert synthesis.model_digest == model.digest
    assert synthesis.roles == ROLES


def test_the_fast_way_agrees_with_the_exact_one_and_with_itself(model, study):
    fast, again, exact = (synthesise(model, *study, full_precision=precise) for precise in (False, False, True))
    np.testing.assert_array_equal(fast.virtual, again.virtual)
    difference = np.abs(fast.virtual - exact.virtual)
    assert difference.max() <= 1e-2
    assert difference[study[1]].mean() <= 1e-3


def test_input_that_does_not_fit_is_refused(model, study):
    inputs, brain = study
    for wrong in ((inputs[:1], brain), (inputs, brain[1:]), (inputs[0], brain)):
        with pytest.raises(ValueError, match="t1, low_dose"):
            synthesise(model, *wrong)
    with pytest.raises(ValueError, match="not finite"):
        synthesise(model, np.full_like(inputs, np.nan), brain)


def test_an_answer_that_is_no_image_is_not_returned(tmp_path, study):
    inputs, brain = study
    write_model(tmp_path)
    broken = Model.load(tmp_path, "cpu")
    broken.network.first.convolutions[0].bias[0] = torch.nan
    with pytest.raises(ValueError, match="answer holds values that are not finite, computed on cpu"):
        synthesise(broken, inputs, brain)
