"""A pass of the network on a processor, done where the brain is and nowhere else that can be helped.

What the network says outside the brain is thrown away, and half of its arithmetic is in the decoders of the two finest
levels, whose convolutions look one voxel far. So these two are computed slab by slab, each no wider than the brain is
there, which is exact: every voxel of the brain gets the same products in the same precision. The coarser levels see
the whole image and are computed whole.

The kernels are flipped instead of the image: the flipped network's answer to an image is the flipped answer to the
flipped image, and the slabs can stay where they are.

``docs/inference.md`` has what each of these brings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from torch import Tensor, nn
from torch.nn import functional

from model.cohort import Mask
from model.network import SLOPE, UP_CONVOLUTIONS, ResidualBlock, SynthesisNetwork

FINEST = 2
"""On how many levels only the brain is decoded; on the next coarser one the brain and its margin are nearly all."""
SLAB = 8
"""Voxels along z: thinner slabs fit the brain better, thicker ones read less of their neighbours."""

Box = tuple[slice, slice, slice]


class FastPass:
    """What ``network`` (on the CPU, not training) says to ``volumes`` (1, M, z, y, x) about the voxels of ``brain``
    (z, y, x), computed in ``dtype``. Raises ValueError for volumes that do not fit."""

    def __init__(self, network: SynthesisNetwork, volumes: Tensor, brain: Mask, dtype: torch.dtype) -> None:
        network.check(volumes)
        self._network, self._volumes = network, volumes
        self._input = volumes.to(dtype, memory_format=torch.channels_last_3d)
        self._needed = [brain]
        for convolutions in UP_CONVOLUTIONS[:-FINEST:-1]:
            seen = _grown(self._needed[-1], convolutions)
            z, y, x = (side // 2 for side in seen.shape)
            self._needed.append(np.asarray(seen.reshape(z, 2, y, 2, x, 2).any(axis=(1, 3, 5))))

    def __call__(self, flipped: Sequence[int]) -> Tensor:
        """Its answer to the volumes flipped along these axes, flipped back: fp32, (1, 1, z, y, x); outside the brain
        it means nothing."""
        network = _with_flipped_kernels(self._network, flipped, self._input.dtype)
        skips = network.encode(self._input)
        x = skips.pop()
        stages = list(zip(network.up, network.decoders, strict=True))
        for up, decoder in stages[:-FINEST]:
            x = functional.leaky_relu_(up(x), SLOPE)
            x = decoder(torch.cat((x, skips.pop()), dim=1), x)
        for (up, decoder), needed in zip(stages[-FINEST:], reversed(self._needed), strict=True):
            x = functional.leaky_relu_(up(x), SLOPE)
            x = _decode(cast(ResidualBlock, decoder), x, skips.pop(), needed)
        return self._network.answer(network.last(x), self._volumes)


def _with_flipped_kernels(network: SynthesisNetwork, axes: Sequence[int], dtype: torch.dtype) -> SynthesisNetwork:
    flipped = copy.deepcopy(network).to(dtype)
    for module in flipped.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            kernels = module.weight.flip(list(axes)).contiguous(memory_format=torch.channels_last_3d)
            module.weight = nn.Parameter(kernels, requires_grad=False)
    return flipped


def _decode(block: ResidualBlock, up: Tensor, skip: Tensor, needed: Mask) -> Tensor:
    """``block`` of the two feature maps side by side, where ``needed``; elsewhere anything."""
    features: tuple[Tensor, ...] = (up, skip)
    convolutions = [cast(nn.Conv3d, module) for module in block.convolutions]
    for left, convolution in zip(reversed(range(len(convolutions))), convolutions, strict=True):
        made = torch.zeros_like(up)
        for box in _slabs(_grown(needed, left)):
            part = functional.conv3d(_around(features, box), convolution.weight, convolution.bias)
            if left == 0:
                part += up[..., *box]
            made[..., *box] = functional.leaky_relu_(part, SLOPE)
        features = (made,)
    return features[0]


def _around(features: tuple[Tensor, ...], box: Box) -> Tensor:
    """The channels of all ``features`` in ``box`` and one voxel around it; zero outside the grid."""
    sides = features[0].shape[2:]
    z, y, x = (slice(max(s.start - 1, 0), min(s.stop + 1, side)) for s, side in zip(box, sides, strict=True))
    part = torch.cat([each[..., z, y, x] for each in features], dim=1)
    missing = [n for s, side in zip(box, sides, strict=True) for n in (int(s.start == 0), int(s.stop == side))]
    if not any(missing):
        return part
    return functional.pad(part, (*missing[4:], *missing[2:4], *missing[:2]))  # torch names the last axis first


def _slabs(needed: Mask) -> Iterator[Box]:
    """Boxes that together hold ``needed``."""
    for start in range(0, len(needed), SLAB):
        slab = needed[start : start + SLAB]
        if slab.any():
            edges = [np.flatnonzero(slab.any(axis=others))[[0, -1]] for others in ((1, 2), (0, 2), (0, 1))]
            z, y, x = (slice(int(first), int(last) + 1) for first, last in edges)
            yield slice(start + z.start, start + z.stop), y, x


def _grown(mask: Mask, by: int) -> NDArray[np.bool_]:
    return np.asarray(binary_dilation(mask, np.ones((3, 3, 3)), by)) if by else mask
