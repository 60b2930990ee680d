"""One table of (inputs, channels, grid) → parameters and output shape, and that every weight is reached."""

import pytest
import torch

from model.network import Head, SynthesisNetwork


@pytest.mark.parametrize(
    ("inputs", "channels", "grid", "parameters"),
    [
        (4, 8, (160, 192, 160), 2_509_153),  # the paper's grid: 2.51 M
        (4, 16, (32, 48, 16), 10_032_065),  # 10.03 M
        (4, 32, (16, 16, 16), 40_119_169),  # 40.12 M
        (3, 8, (32, 32, 32), 2_508_937),
        (2, 8, (16, 32, 48), 2_508_721),
        (1, 8, (16, 16, 16), 2_508_505),
        (1, 16, (16, 16, 16), 10_030_769),
    ],
)
def test_parameters_and_output_shape(inputs, channels, grid, parameters):
    network = SynthesisNetwork(inputs, channels).eval()
    with torch.inference_mode():
        virtual = network(torch.rand(1, inputs, *grid))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert virtual.shape == (1, 1, *grid)
    assert virtual.min() >= 0
    assert virtual.max() <= 1


@pytest.mark.parametrize("head", list(Head))
def test_every_parameter_has_a_gradient(head):
    torch.manual_seed(0)
    network = SynthesisNetwork(2, 8, head, low_dose_channel=1, t1_channel=0)
    virtual = network(torch.rand(2, 2, 32, 32, 32))
    torch.mean((virtual - 0.5) ** 2).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_activations_neither_vanish_nor_explode_at_the_start():
    torch.manual_seed(0)
    network = SynthesisNetwork(4, 8).eval()
    with torch.inference_mode():
        spread = network.features(torch.rand(1, 4, 32, 32, 32)).std()
    assert 0.05 < spread < 20


@pytest.mark.parametrize("head", [Head.RESIDUAL, Head.DIFFERENCE])
def test_other_heads_start_as_the_low_dose_image(head):
    torch.manual_seed(0)
    low_dose = torch.rand(1, 1, 16, 16, 16)
    network = SynthesisNetwork(2, 8, head, low_dose_channel=1, t1_channel=0).eval()
    with torch.inference_mode():
        virtual = network(torch.cat((torch.rand_like(low_dose), low_dose), dim=1))
    assert (virtual - low_dose).abs().mean() < 0.05


@pytest.mark.parametrize("low_dose_channel", [None, 2, -1])
def test_residual_head_needs_the_low_dose_among_its_inputs(low_dose_channel):
    with pytest.raises(ValueError, match="low-dose channel"):
        SynthesisNetwork(2, 8, Head.RESIDUAL, low_dose_channel)


@pytest.mark.parametrize(
    ("shape", "complaint"), [((1, 2, 16, 16, 24), "multiple of 16"), ((1, 3, 16, 16, 16), "expected")]
)
def test_input_that_does_not_fit_is_refused(shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        SynthesisNetwork(2, 8)(torch.zeros(shape))
