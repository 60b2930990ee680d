"""A model folder gives back the network it was written from, and a bad one says what is wrong."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.card import CARD, CardError, ModelCard
from model.evaluate import Figures, Result, Summary
from model.network import Head, SynthesisNetwork
from model.store import WEIGHTS, Model, WeightsError, model_folders, roles_of, write_weights
from preprocessing.volume import Role

from .tiny import ROLES

ALL_ROLES = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)


def write_model(folder, roles=ROLES, seed=0, channels=8):
    torch.manual_seed(seed)
    network = SynthesisNetwork(len(roles), channels, Head.RESIDUAL, roles.index(Role.LOW_DOSE))
    digest = write_weights(folder, network, roles)
    summary = Summary(0.001, 0.0002)
    figures = Figures(summary, Summary(None, None), Summary(34.5, 1.5), Summary(0.94, 0.01))
    card = ModelCard(
        "tiny", "A network for tests.", digest, "c0ffee", "abc123", "pytest", ("not trained",),
        (Result("network", 3, figures, figures),), ("for nobody",),
    )
    card.write(folder)
    return network


def test_what_is_loaded_is_what_was_written(tmp_path):
    network = write_model(tmp_path)
    model = Model.load(tmp_path, "cpu")
    assert model.roles == ROLES
    assert model.card == ModelCard.read(tmp_path)
    volume = torch.rand(1, 2, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(volume), network(volume), atol=2e-3, rtol=0)  # stored as float16
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_digest_is_of_the_numbers_not_of_the_card(tmp_path):
    write_model(tmp_path / "a")
    write_model(tmp_path / "b")
    write_model(tmp_path / "c", seed=1)
    first, again, other = (Model.load(tmp_path / name, "cpu").digest for name in "abc")
    assert first == again != other
    replace(ModelCard.read(tmp_path / "a"), summary="Better said.").write(tmp_path / "a")
    assert Model.load(tmp_path / "a", "cpu").digest == first


def test_the_page_shows_the_figures(tmp_path):
    write_model(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| network | whole grid | 100.0 (20.0) | – | 34.50 (1.50) | 94.00 (1.00) |" in page
    assert "for nobody" in page


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"weights\.safetensors does not exist"):
        Model.load(tmp_path / "nowhere")
    write_model(tmp_path)
    (tmp_path / CARD).unlink()
    with pytest.raises(CardError, match="card included"):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b"[]", b'{"results": [{}]}', b'{"results": [{"grid": [], "brain": []}]}', b"\xff\xfe"]
)
def test_a_broken_card_is_refused(tmp_path, content):
    write_model(tmp_path)
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(CardError, match="copy the model folder again"):
        Model.load(tmp_path)


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    write_model(tmp_path)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        Model.load(tmp_path)


def _accept(folder):
    import hashlib

    card = json.loads((folder / CARD).read_text())
    card["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("breakage", ["truncated", "no metadata", "other network", "no inputs", "not a number"])
def test_weights_of_something_else_are_refused(tmp_path, breakage):
    write_model(tmp_path)
    path = tmp_path / WEIGHTS
    tensors = load_file(path)
    if breakage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif breakage == "no metadata":
        save_file(tensors, path)
    elif breakage == "not a number":
        tensors["last.bias"] += torch.nan
        save_file(tensors, path, {"quarterdose": json.dumps({"roles": ROLES, "channels": 8, "head": "residual"})})
    else:
        roles = [] if breakage == "no inputs" else ROLES
        save_file(tensors, path, {"quarterdose": json.dumps({"roles": roles, "channels": 16, "head": "paper"})})
    _accept(tmp_path)
    with pytest.raises(WeightsError, match="no weights of this network"):
        Model.load(tmp_path)


def test_the_folders_of_a_folder_and_what_each_takes(tmp_path):
    write_model(tmp_path / "two")
    write_model(tmp_path / "four", ALL_ROLES)
    found = {folder.name: roles_of(folder) for folder in model_folders(tmp_path)}
    assert found == {"four": ALL_ROLES, "two": ROLES}
    assert model_folders(tmp_path / "nowhere") == ()


@pytest.mark.parametrize("weight", [float("nan"), 1e6])
def test_weights_that_float16_cannot_hold_are_not_written(tmp_path, weight):
    network = SynthesisNetwork(2, 8)
    torch.nn.init.constant_(network.last.weight, weight)
    with pytest.raises(ValueError, match=r"last\.weight holds what is no number"):
        write_weights(tmp_path, network, ROLES)
    assert not (tmp_path / WEIGHTS).exists()


def test_roles_that_do_not_fit_the_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 inputs"):
        write_weights(tmp_path, SynthesisNetwork(2, 8), ALL_ROLES)
