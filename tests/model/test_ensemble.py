"""Networks that answer together: what they say, how sure they are, and who they are."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

import model.contenders
from model.card import ModelCard
from model.contenders import CONTENDERS, Trained
from model.crossvalidate import Plan
from model.ensemble import Ensemble, pooled, synthesise_together
from model.finish import write_folds
from model.network import Head, network_for
from model.report import calibration_table
from model.store import Model, WeightsError, write_weights
from model.synthesise import synthesise
from model.train import train
from model.training_settings import TrainingSettings
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort, validated

SETTINGS = TrainingSettings(roles=ROLES, channels=2, head=Head.RESIDUAL, epochs=1, half_precision=False)


def write_model(folder, roles=ROLES, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        digest = write_weights(folder, network_for(roles, 2), roles)
    ModelCard(folder.name, "for a test", digest, "", "", "", (), (), ()).write(folder)
    return folder


def test_the_deviation_of_several_is_that_of_all_their_answers():
    answers = np.random.default_rng(0).normal(size=(3, 8, 2, 2, 2)).astype(np.float32)
    mean, deviation = pooled(list(answers.mean(axis=1)), list(answers.std(axis=1)))
    np.testing.assert_allclose(mean, answers.reshape(24, 2, 2, 2).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(deviation, answers.reshape(24, 2, 2, 2).std(axis=0), atol=1e-6)


def test_a_folder_of_model_folders_answers_together_and_one_alone_is_itself(tmp_path):
    members = [write_model(tmp_path / "folds" / f"fold_{seed}", seed=seed) for seed in (1, 2)]
    inputs = np.random.default_rng(1).random((2, 32, 32, 32), dtype=np.float32)
    brain = np.ones((32, 32, 32), bool)
    heard = []
    both = synthesise_together(
        Ensemble.load(tmp_path / "folds", "cpu"), inputs, brain, lambda done, of: heard.append((done, of))
    )
    alone = [synthesise(Model.load(folder, "cpu"), inputs, brain) for folder in members]
    np.testing.assert_allclose(both.virtual, (alone[0].virtual + alone[1].virtual) / 2, atol=1e-6)
    apart = np.abs(alone[0].virtual - alone[1].virtual) / 2
    assert (both.uncertainty >= apart - 1e-6).all() and both.uncertainty.mean() > alone[0].uncertainty.mean()
    assert heard == [(done, 16) for done in range(1, 17)]

    one = Ensemble.load(members[0], "cpu")
    assert (one.digest, one.name) == (alone[0].model_digest, "fold_1")
    swapped = Ensemble(Ensemble.load(tmp_path / "folds", "cpu").members[::-1])
    assert swapped.digest == both.model_digest not in {answer.model_digest for answer in alone}
    assert swapped.name == "fold_2 and 1 more"


def test_members_take_the_same_inputs_and_an_empty_folder_is_none(tmp_path):
    write_model(tmp_path / "folds" / "a")
    write_model(tmp_path / "folds" / "b", roles=(Role.T1, Role.FLAIR))
    with pytest.raises(WeightsError, match="same input channels: a takes t1, low_dose; b takes t1, flair"):
        Ensemble.load(tmp_path / "folds", "cpu")
    with pytest.raises(WeightsError, match="does not exist"):
        Ensemble.load(tmp_path, "cpu")


def test_an_ensemble_is_validated_and_calibrated_like_any_method_and_its_folds_become_models(tmp_path, monkeypatch):
    plan = Plan(tiny_cohort(tmp_path / "cohort", 4), tmp_path / "runs", folds=2)
    ensemble = replace(CONTENDERS["ensemble"](SETTINGS), members=2)
    learned = defaultdict(list)

    def train_noting_on_whom(train_set, settings, folder, told):
        learned[folder.parent].append({record.name for record in train_set.subjects})
        return train(train_set, settings, folder, told)

    with monkeypatch.context() as patch:
        patch.setattr(model.contenders, "train", train_noting_on_whom)
        result = validated(plan, ensemble)
    assert len(result.judgements) == 4
    for run, fold in zip(result.runs, result.folds, strict=True):
        first, second = learned[run]
        assert first and second and not first & second
        assert not (first | second) & {one.subject for one in fold}  # nobody is judged whom a member knows
    assert len({path.parent for run in result.runs for path in run.glob("member-*/checkpoint.pt")}) == 4
    assert all(one.reliability is not None for one in result.judgements)
    assert ensemble.name in calibration_table([result]).markdown()

    trained = validated(plan, Trained("the paper", SETTINGS))
    cards = write_folds(tmp_path / "models", plan, SETTINGS, trained.runs)
    together = Ensemble.load(tmp_path / "models", "cpu")
    assert [one.digest for one in together.members] == [card.weights_sha256 for card in cards]
    assert [card.results[0].subjects for card in cards] == [2, 2]
    (tmp_path / "models" / "fold_2").rename(tmp_path / "models" / "fold_5")  # as if of five folds, once
    with pytest.raises(ValueError, match=r"holds other models \(fold_5\): delete them"):
        write_folds(tmp_path / "models", plan, SETTINGS, trained.runs)
