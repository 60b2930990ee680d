"""The network of the paper (section 2, "Deep network architecture"; Figure 2), a V-Net without normalisation.

The paper fixes: M inputs, C channels in the first feature map, encoding by 2-strided convolutions of kernel 2 and
residual blocks of kernel 3, a symmetric decoder of 2-strided transposed convolutions of kernel 2, skips by
concatenation, 0.2-leaky ReLU everywhere, a final convolution of kernel 1 and a sigmoid. It names no normalisation
layer, so there is none.

Where it is silent, this follows V-Net (Milletari et al., 3DV 2016, Figure 2 and section 2):

- five levels, the channels doubling at each, with 1, 2, 3, 3, 3 convolutions on the way down and 3, 3, 2, 1 on the
  way up;
- a residual block adds its input to the output of its last convolution, before the activation. The first block's input
  has M channels: they are repeated up to C, as V-Net repeats its single one. A decoder block's residual is what came up
  from below, not the skip, so its first convolution goes from 2c to c channels;
- every convolution, strided or not, is padded to keep the grid and followed by the activation.

That gives 2.51, 10.03 and 40.12 million parameters for C = 8, 16 and 32, and 138, 533 and 2097 GFLOP per pass on the
paper's 160 × 192 × 160 grid. Weights start from He et al.'s normal distribution (2015), which V-Net used too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from preprocessing.volume import Role

SLOPE = 0.2
DOWN_CONVOLUTIONS = (1, 2, 3, 3, 3)
UP_CONVOLUTIONS = (3, 3, 2, 1)
GRID_MULTIPLE = 2 ** (len(DOWN_CONVOLUTIONS) - 1)
"""Each side of the grid must be a multiple of this: it is halved once per level below the first."""

SMALLEST_ODDS = 1e-3
"""Where the residual head cuts its logit: zero and one have none."""


class Head(StrEnum):
    """What the last feature map is turned into."""

    PAPER = "paper"
    """sigmoid(network): the paper's, and the reference."""
    RESIDUAL = "residual"
    """sigmoid(logit(low-dose) + network): starts as the low-dose image and learns only what the contrast adds. Among
    inputs without a low dose, T1 takes its place."""
    DIFFERENCE = "difference"
    """sigmoid(logit(T1 + k·(low-dose − T1)) + network), k learned from 1 on: on top of the low-dose difference."""


class ResidualBlock(nn.Module):
    """``count`` convolutions of kernel 3; ``shortcut`` is added before the last activation."""

    def __init__(self, channels_in: int, channels: int, count: int) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * count
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )

    def forward(self, features: Tensor, shortcut: Tensor) -> Tensor:
        for position, convolution in enumerate(self.convolutions, start=1):
            features = convolution(features)
            if position == len(self.convolutions):
                features = features.add_(shortcut.to(features.dtype))  # autocast: adding across types is slow
            features = functional.leaky_relu_(features, SLOPE)
        return features


class SynthesisNetwork(nn.Module):
    """From (batch, M, z, y, x) in [0, 1] to the virtual full dose (batch, 1, z, y, x) in [0, 1].

    ``low_dose_channel`` and ``t1_channel`` are where the other heads find those images among the inputs; None for
    inputs without them, which only the paper's head can use.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        head: Head = Head.PAPER,
        low_dose_channel: int | None = None,
        t1_channel: int | None = None,
    ) -> None:
        super().__init__()
        if inputs < 1 or channels < 1:
            raise ValueError(f"a network needs inputs and channels, not {inputs} and {channels}")
        if head is not Head.PAPER and (low_dose_channel is None or not 0 <= low_dose_channel < inputs):
            raise ValueError(f"the {head} head needs a low-dose channel among {inputs}, not {low_dose_channel}")
        if head is Head.DIFFERENCE and (t1_channel is None or not 0 <= t1_channel < inputs):
            raise ValueError(f"the difference head needs a T1 channel among {inputs}, not {t1_channel}")
        self.inputs, self.channels, self.head = inputs, channels, head
        self.low_dose_channel, self.t1_channel = low_dose_channel, t1_channel
        if head is Head.DIFFERENCE:
            self.k = nn.Parameter(torch.ones(()))
        widths = [channels * 2**level for level in range(len(DOWN_CONVOLUTIONS))]
        self.first = ResidualBlock(inputs, channels, DOWN_CONVOLUTIONS[0])
        self.down = nn.ModuleList(
            nn.Conv3d(above, below, 2, stride=2) for above, below in pairwise(widths)
        )
        self.encoders = nn.ModuleList(
            ResidualBlock(width, width, count) for width, count in zip(widths[1:], DOWN_CONVOLUTIONS[1:], strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(2 * width, width, 2, stride=2) for width in reversed(widths[:-1])
        )
        self.decoders = nn.ModuleList(
            ResidualBlock(2 * width, width, count)
            for width, count in zip(reversed(widths[:-1]), UP_CONVOLUTIONS, strict=True)
        )
        self.last = nn.Conv3d(channels, 1, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                # each output voxel of a transposed convolution (kernel 2, stride 2) meets one kernel voxel, not eight
                transposed = isinstance(module, nn.ConvTranspose3d)
                fan_in = module.in_channels * (1 if transposed else module.kernel_size[0] ** 3)
                nn.init.normal_(module.weight, std=math.sqrt(2 / (1 + SLOPE**2) / fan_in))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.head is not Head.PAPER:  # a small start: the first prediction is the low-dose image itself
            with torch.no_grad():
                self.last.weight.mul_(0.01)

    def check(self, volumes: Tensor) -> None:
        """Raises ValueError for volumes that the network cannot take."""
        if volumes.ndim != 5 or volumes.shape[1] != self.inputs:
            raise ValueError(f"expected (batch, {self.inputs}, z, y, x), got {tuple(volumes.shape)}")
        if any(side % GRID_MULTIPLE for side in volumes.shape[2:]):
            raise ValueError(f"each side must be a multiple of {GRID_MULTIPLE}, got {tuple(volumes.shape[2:])}")

    def encode(self, volumes: Tensor) -> list[Tensor]:
        """The feature map of each level, the finest first."""
        self.check(volumes)
        repeats = -(-self.channels // self.inputs)
        repeated = torch.cat([volumes] * repeats, dim=1)  # which keeps channels last, as Tensor.repeat does not
        x: Tensor = self.first(volumes, repeated[:, : self.channels])
        levels = [x]
        for down, encoder in zip(self.down, self.encoders, strict=True):
            x = functional.leaky_relu_(down(x), SLOPE)
            x = encoder(x, x)
            levels.append(x)
        return levels

    def features(self, volumes: Tensor) -> Tensor:
        """The last feature map before the head, (batch, 1, z, y, x): the logit of the paper's output."""
        skips = self.encode(volumes)
        x = skips.pop()
        for up, decoder in zip(self.up, self.decoders, strict=True):
            x = functional.leaky_relu_(up(x), SLOPE)
            x = decoder(torch.cat((x, skips.pop()), dim=1), x)
        last: Tensor = self.last(x)
        return last

    def forward(self, volumes: Tensor) -> Tensor:
        return self.answer(self.features(volumes), volumes)

    def answer(self, features: Tensor, volumes: Tensor) -> Tensor:
        """What the head makes of the last feature map, in fp32 whatever that comes in."""
        logit = features.float()
        if self.low_dose_channel is not None and self.head is not Head.PAPER:
            start = volumes[:, self.low_dose_channel, None].float()
            if self.t1_channel is not None and self.head is Head.DIFFERENCE:
                t1 = volumes[:, self.t1_channel, None].float()
                start = t1 + self.k * (start - t1)
            logit = logit + torch.logit(start, SMALLEST_ODDS)
        return torch.sigmoid(logit)


def network_for(
    roles: Sequence[Role], channels: int, head: Head = Head.PAPER
) -> SynthesisNetwork:
    """The network whose input channels are ``roles``, in this order. The residual head starts from the low dose, and
    where there is none from T1."""
    low_dose, t1 = (list(roles).index(role) if role in roles else None for role in (Role.LOW_DOSE, Role.T1))
    start = t1 if low_dose is None and head is Head.RESIDUAL else low_dose
    return SynthesisNetwork(len(roles), channels, head, start, t1)
