"""From the prepared input of one study to its virtual full dose (paper, section 2).

All eight flips of the input are computed, flipped back and averaged, as the paper does for validation and testing;
how far they differ says how sure the network is of a voxel.

Where the processor multiplies bf16 itself a pass runs in bf16, elsewhere in fp32; on a CPU only where the brain is
(``model.fast_pass``). ``docs/inference.md`` has what that brings and what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.cohort import Mask
from model.fast_pass import FastPass
from model.intensity import on_shared_scale
from model.network import SynthesisNetwork
from model.precision import half_precision_holds
from model.sampling import SPATIAL_AXES, seeded
from model.store import Model
from preprocessing.processor import freed_pages_kept, multiplies_bf16
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]

FLIPS: tuple[tuple[int, ...], ...] = tuple(axes for count in range(4) for axes in combinations(SPATIAL_AXES, count))
"""All eight configurations of the three axes, none first."""


@dataclass(frozen=True)
class Synthesis:
    """``virtual``: the full dose in [0, 1], and ``uncertainty``: the standard deviation over the eight flips
    (divided by eight) in the same unit, both (z, y, x) and zero outside the brain. ``roles``: the input channels it
    was made from."""

    virtual: FloatArray
    uncertainty: FloatArray
    model_digest: str
    roles: tuple[Role, ...]


def synthesise(
    model: Model,
    inputs: FloatArray,
    brain: Mask,
    progress: Callable[[int, int], None] | None = None,
    *,
    full_precision: bool = False,
) -> Synthesis:
    """The virtual full dose of ``inputs`` (M, z, y, x) in [0, 1], channels in the order of ``model.roles``, inside
    ``brain`` (z, y, x). ``progress`` is told (flips done, 8) after each. ``full_precision``: the reference,
    plain fp32 of the whole grid. Raises ValueError for an input that does not fit or is not finite, or an answer that
    is not."""
    if inputs.ndim != 4 or inputs.shape[0] != len(model.roles) or brain.shape != inputs.shape[1:]:
        raise ValueError(
            f"expected inputs of ({len(model.roles)}, z, y, x) for {', '.join(model.roles)} and a brain of (z, y, x), "
            f"got {inputs.shape} and {brain.shape}"
        )
    if not np.isfinite(inputs).all():
        raise ValueError("the input holds values that are not finite")
    if model.shared_scale:
        inputs = on_shared_scale(inputs, model.roles, brain)
    half = not full_precision and multiplies_bf16(model.device)
    only = None if full_precision else brain
    mean, deviation = average_flips(model.network, inputs, half_precision=half, brain=only, progress=progress)
    virtual, uncertainty = (np.where(brain, result, np.float32(0)) for result in (mean, deviation))
    if not np.isfinite(virtual).all():
        raise ValueError(f"the network's answer holds values that are not finite, computed on {model.device}")
    return Synthesis(virtual, uncertainty, model.digest, model.roles)


def average_flips(
    network: nn.Module,
    inputs: FloatArray,
    *,
    half_precision: bool,
    brain: Mask | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (divided by eight), each (z, y, x), of what ``network`` says to the eight flips of
    ``inputs`` (M, z, y, x), flipped back. A network that tells the logarithm of a variance in a second channel has the
    mean of that added to the variance over the flips. With ``brain`` (z, y, x) what is said outside of it need not
    mean anything. ``progress`` is told (flips done, 8) after each."""
    device = next(network.parameters()).device
    volume = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)).to(device)[None]
    answers = []
    with freed_pages_kept(), torch.inference_mode():
        answer_flipped: Callable[[Sequence[int]], Tensor]
        if brain is not None and device.type == "cpu" and isinstance(network, SynthesisNetwork):
            answer_flipped = FastPass(network, volume, brain, torch.bfloat16 if half_precision else torch.float32)
        else:
            half_precision = half_precision and half_precision_holds(
                network, tuple(volume.shape), torch.bfloat16, learning=False
            )
            answer_flipped = partial(_whole_pass, network, volume, half_precision)
        for done, axes in enumerate(FLIPS, start=1):
            answers.append(answer_flipped(axes)[0])
            if progress is not None:
                progress(done, len(FLIPS))
        told = torch.stack(answers)
        deviation, mean = torch.std_mean(told[:, 0], dim=0, correction=0)
        if told.shape[1] > 1:
            deviation = (deviation.square() + told[:, 1].exp().mean(dim=0)).sqrt()
    return mean.cpu().numpy(), deviation.cpu().numpy()


def _whole_pass(network: nn.Module, volume: Tensor, half_precision: bool, axes: Sequence[int]) -> Tensor:
    """The answer to the flipped volume, flipped back, over the whole grid, whatever the network and the device."""
    flipped = torch.flip(volume, list(axes)).contiguous(memory_format=torch.channels_last_3d)
    same_dropout = seeded(volume.device, 1 + FLIPS.index(tuple(axes)))
    with same_dropout, torch.autocast(volume.device.type, torch.bfloat16, enabled=half_precision):
        return torch.flip(network(flipped), list(axes))
