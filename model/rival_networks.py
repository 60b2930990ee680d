"""The networks that the paper compares itself with, as far as they could be built from what is published.

**Gong et al.** (JMRI 2018; ISMRM 2018, 4190): a 2D encoder–decoder with bypass connections and a residual connection,
from T1 and low dose. Their abstracts say so, and that 10 patients trained it, at doses of 0.01 and 0.1 mmol/kg, on
images that were registered and scaled by the mean of a mask. That bypasses are concatenated and that several
neighbouring slices help is said of the low-dose PET network of the same group (arXiv 1712.04119). Not found in any text
that could be read, and so ours: five slices, three levels, three convolutions of kernel 3 with batch normalisation and
ReLU on each, max-pooling, the residual added to the low dose, L1, the width C. It sees our preparation of the images,
at our quarter dose instead of their tenth.

**Kleesiek et al.** (Investigative Radiology 2019): a Bayesian network from ten channels without contrast. The paper
that is reproduced here adds that it takes 3D patches of T1, T2, FLAIR, diffusion and susceptibility; their abstract
says no more of the network. Ours, therefore: the variance learned together with the mean and dropout that stays on in
use (Kendall & Gal, NeurIPS 2017); a U-Net of three levels of width C with instance normalisation; one dropout sample
for each of our eight flips. T1, FLAIR and ADC stand for their ten channels: the T2, which they found to be the most
influential, is not in our protocol. Trained on patches, but applied to the whole volume at once, which a convolutional
network may. Read its row as "without contrast", not as their result.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NEIGHBOURS = 2
"""Slices on each side that Gong's network sees beside the one it predicts."""
DROPOUT = 0.1
LOG_VARIANCE = (-14.0, 2.0)
"""Where Kleesiek's logarithm of the variance is cut: a deviation below 0.001 is less than the images' own rounding."""


class GongNetwork(nn.Module):
    """From (batch, M, z, y, x) to (batch, 1, z, y, x): every axial slice from its neighbourhood."""

    def __init__(self, inputs: int, channels: int, low_dose_channel: int) -> None:
        super().__init__()
        self.low_dose_channel = low_dose_channel
        widths = (channels, 2 * channels, 4 * channels)
        before = inputs * (2 * NEIGHBOURS + 1)
        self.down = nn.ModuleList()
        for width in widths:
            self.down.append(_stage(nn.Conv2d, nn.BatchNorm2d, before, width))
            before = width
        self.up = nn.ModuleList(
            _stage(nn.Conv2d, nn.BatchNorm2d, below + width, width)
            for below, width in ((widths[2], widths[1]), (widths[1], widths[0]))
        )
        self.last = nn.Conv2d(channels, 1, 1)
        with torch.no_grad():
            self.last.weight.mul_(0.01)  # starts as the low dose itself

    def forward(self, volumes: Tensor) -> Tensor:
        batch, _, depth, height, width = volumes.shape
        padded = functional.pad(volumes, (0, 0, 0, 0, NEIGHBOURS, NEIGHBOURS), mode="replicate")
        slices = torch.stack([padded[:, :, start : start + depth] for start in range(2 * NEIGHBOURS + 1)], dim=2)
        x = slices.flatten(1, 2).transpose(1, 2).reshape(batch * depth, -1, height, width).contiguous()
        for_skips = []
        for level, stage in enumerate(self.down):
            x = stage(functional.max_pool2d(x, 2) if level else x)
            for_skips.append(x)
        for stage, skip in zip(self.up, for_skips[-2::-1], strict=True):
            x = stage(torch.cat((functional.interpolate(x, scale_factor=2.0), skip), dim=1))
        change = self.last(x).float().reshape(batch, depth, 1, height, width).transpose(1, 2)
        answer: Tensor = volumes[:, self.low_dose_channel, None].float() + change
        return answer


class KleesiekNetwork(nn.Module):
    """From (batch, M, z, y, x) to (batch, 2, z, y, x): the mean and the logarithm of the variance."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        before = inputs
        self.down = nn.ModuleList()
        for width in widths:
            self.down.append(_stage(nn.Conv3d, nn.InstanceNorm3d, before, width, convolutions=2))
            before = width
        self.up = nn.ModuleList(
            _stage(nn.Conv3d, nn.InstanceNorm3d, below + width, width, convolutions=2)
            for below, width in ((widths[2], widths[1]), (widths[1], widths[0]))
        )
        self.last = nn.Conv3d(channels, 2, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        x, for_skips = volumes, []
        for level, stage in enumerate(self.down):
            x = stage(functional.max_pool3d(x, 2) if level else x)
            x = functional.dropout3d(x, DROPOUT, training=True)  # in use too: that is what makes it Bayesian
            for_skips.append(x)
        for stage, skip in zip(self.up, for_skips[-2::-1], strict=True):
            x = stage(torch.cat((functional.interpolate(x, scale_factor=2.0), skip), dim=1))
        mean, log_variance = self.last(x).float().split(1, dim=1)
        return torch.cat((torch.sigmoid(mean), log_variance.clamp(*LOG_VARIANCE)), dim=1)


def _stage(
    convolution: type[nn.Module], norm: type[nn.Module], before: int, width: int, convolutions: int = 3
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [convolution(before, width, 3, padding=1), norm(width), nn.ReLU(inplace=True)]
        before = width
    return nn.Sequential(*layers)
