"""Half precision is trusted where it is right and only there: layers that lie in it are found out."""

import logging

import pytest
import torch
from torch import nn

from model.network import SynthesisNetwork
from model.precision import half_precision_holds
from model.rival_networks import GongNetwork, KleesiekNetwork


def half():
    return torch.is_autocast_enabled("cpu")


class Zeros(nn.Conv3d):
    """As tensors beyond 2³¹ elements have come out."""

    def forward(self, volumes):
        return super().forward(volumes) * (0 if half() else 1)


class DoubledGradient(nn.Conv3d):
    """Right forwards, wrong backwards."""

    def forward(self, volumes):
        return self._conv_forward(volumes, 2 * self.weight - self.weight.detach() if half() else self.weight, self.bias)


class NotANumber(nn.Conv3d):
    def forward(self, volumes):
        return super().forward(volumes) + (torch.nan if half() else 0)


def network_with(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.LeakyReLU(0.2), layer(4, 1, 3, padding=1))


@pytest.mark.parametrize(
    ("network", "side", "dtype"),
    [
        (SynthesisNetwork(2, 4), 48, torch.bfloat16), (SynthesisNetwork(2, 4), 48, torch.float16),
        (GongNetwork(2, 4, low_dose_channel=1), 16, torch.bfloat16), (KleesiekNetwork(2, 4), 16, torch.bfloat16),
    ],
    ids=lambda value: getattr(type(value), "__name__", ""),
)  # fmt: skip
def test_this_processor_gets_every_network_right(network, side, dtype):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert half_precision_holds(network, (1, 2, side, side, side), dtype, learning=True)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("layer", "learning", "complaint"),
    [
        (Zeros, False, "the output of Zeros(4, 1"),
        (NotANumber, False, "the output of NotANumber(4, 1"),
        (DoubledGradient, True, "the weights' gradient of DoubledGradient(4, 1"),
    ],
)
def test_a_layer_that_lies_is_named_and_fp32_taken(layer, learning, complaint, caplog):
    with caplog.at_level(logging.WARNING):
        assert not half_precision_holds(network_with(layer), (1, 2, 16, 16, 16), torch.bfloat16, learning=learning)
    assert complaint in caplog.text
    assert "1 × 4 × 16 × 16 × 16" in caplog.text
    assert "computing in fp32" in caplog.text


def test_gradients_do_not_matter_to_who_only_answers(caplog):
    assert half_precision_holds(network_with(DoubledGradient), (1, 2, 16, 16, 16), torch.bfloat16, learning=False)
    assert not caplog.text
