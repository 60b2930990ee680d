"""Where the brain is, the fast pass says what the whole network says, wherever that lies and however it is flipped."""

import numpy as np
import pytest
import torch

from model.fast_pass import FastPass
from model.network import Head, SynthesisNetwork

SIDES = (32, 48, 32)


def box(*sides):
    brain = np.zeros(SIDES, bool)
    brain[*(slice(*side) for side in sides)] = True
    return brain


def two_parts():
    return box((2, 9), (30, 40), (3, 30)) | box((20, 31), (4, 20), (10, 12))


BRAINS = {
    "inside": box((6, 25), (9, 35), (5, 26)),
    "at the borders": box((0, 32), (0, 48), (0, 32)),
    "in a corner": box((0, 3), (45, 48), (0, 2)),
    "one voxel": box((17, 18), (23, 24), (9, 10)),
    "two parts": two_parts(),
}


def network(head):
    torch.manual_seed(3)
    made = SynthesisNetwork(2, 4, head, low_dose_channel=1, t1_channel=0).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim == 1:
            parameter.normal_(std=0.1)  # biases that say where the grid ends
    return made.to(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("head", "flipped", "brain"),
    [
        (Head.PAPER, (), "inside"), (Head.RESIDUAL, (-1,), "inside"), (Head.DIFFERENCE, (-3, -2), "inside"),
        (Head.PAPER, (-3,), "at the borders"), (Head.PAPER, (-2, -1), "in a corner"), (Head.PAPER, (-2,), "one voxel"),
        (Head.PAPER, (-3, -2, -1), "two parts"),
    ],
)  # fmt: skip
def test_inside_the_brain_it_is_the_network(head, flipped, brain):
    brain = BRAINS[brain]
    net, volumes = network(head), torch.rand(1, 2, *SIDES, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = torch.flip(net(torch.flip(volumes, flipped)), flipped)[0, 0].numpy()
        fast = FastPass(net, volumes, brain, torch.float32)(flipped)[0, 0].numpy()
    assert whole[brain].std() > 1e-3 or brain.sum() < 30
    np.testing.assert_allclose(fast[brain], whole[brain], atol=1e-5)


def test_the_network_is_left_as_it_was():
    net, volumes = network(Head.PAPER), torch.rand(1, 2, *SIDES)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.inference_mode():
        FastPass(net, volumes, BRAINS["inside"], torch.bfloat16)((-1,))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == torch.float32


def test_volumes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        FastPass(network(Head.PAPER), torch.rand(1, 2, 32, 40, 33), np.ones((32, 40, 33), bool), torch.float32)
