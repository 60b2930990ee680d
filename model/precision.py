"""Whether a device gets convolutions right in half precision, asked before a network is trusted with it.

It is not a matter of course: cuDNN 9.8 to 9.10 gave wrong bf16 convolutions in 3D, tensors of more than 2³¹ elements
have come out as zeros, and on a processor weight gradients have been read from memory that was never written. So every
kind of convolution in a network is done once with random numbers, at the sizes it will meet, in half precision and in
fp32, and where the two differ by more than rounding fp32 is used and a warning says so.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
TOLERANCE = 0.05
"""Root mean square of the difference over that of the fp32 result. bf16 has 8 significant bits, so rounding changes
a number by at most 2⁻⁸, 0.004 of it."""
PROBED_SIDE = 64
"""A processor's kernels do not depend on how large a volume is, so no more voxels than these are tried there."""
Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d


@lru_cache(maxsize=4)  # once for a network that answers again and again; four of them are kept alive
def half_precision_holds(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, *, learning: bool) -> bool:
    """Whether ``network`` may compute volumes of ``shape`` (batch, M, z, y, x) in ``dtype`` on the device it is on;
    ``learning``: its gradients, too. If not, a warning names what is wrong."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        shape = (*shape[:2], *(min(side, PROBED_SIDE) for side in shape[2:]))
    for convolution, size in _convolutions(network, shape):
        for what, error in _errors(convolution, size, dtype, device, learning=learning):
            if not error <= TOLERANCE:  # not a number is too much, too
                log.warning(
                    "%s of %s for an input of %s is wrong in %s on this %s (relative error %.2g): computing in fp32",
                    what, convolution, " × ".join(map(str, size)), dtype, device.type, error,
                )  # fmt: skip
                return False
    return True


def _convolutions(network: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[Convolution, torch.Size]]:
    """Each kind of convolution in the network once, and the size of what it is given."""
    met: dict[tuple[object, ...], tuple[str, torch.Size]] = {}
    shadow = copy.deepcopy(network).to("meta")  # sizes only: nothing is computed
    for name, module in shadow.named_modules():
        if isinstance(module, Convolution):

            def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor, name: str = name) -> None:
                assert isinstance(module, Convolution)  # noqa: S101  # for the type checker: asked above
                kind = (type(module), module.weight.shape, module.stride, given[0].shape)
                met.setdefault(kind, (name, given[0].shape))

            module.register_forward_hook(note)
    with torch.no_grad():
        shadow(torch.empty(shape, device="meta"))
    for name, size in met.values():
        convolution = network.get_submodule(name)
        assert isinstance(convolution, Convolution)  # noqa: S101  # for the type checker: asked above
        yield convolution, size


def _errors(
    convolution: Convolution, size: torch.Size, dtype: torch.dtype, device: torch.device, *, learning: bool
) -> Iterator[tuple[str, float]]:
    given = _random(size, device, seed=0)
    half, full = (_results(convolution, given, kind, learning=learning) for kind in (dtype, torch.float32))
    for what, ours, true in zip(("the output", "the input's gradient", "the weights' gradient"), half, full,
                                strict=False):  # fmt: skip
        yield what, float((ours.float() - true).norm() / true.norm())


def _results(convolution: Convolution, given: Tensor, dtype: torch.dtype, *, learning: bool) -> tuple[Tensor, ...]:
    given = given.detach().requires_grad_(learning)
    with torch.set_grad_enabled(learning), torch.autocast(given.device.type, dtype, enabled=dtype is not torch.float32):
        made: Tensor = convolution(given)
    if not learning:
        return (made,)
    pushed = _random(made.shape, made.device, seed=1).to(made.dtype)  # unlike the input, or sums would overflow fp16
    return made.detach(), *torch.autograd.grad(made, (given, convolution.weight), pushed)


def _random(size: torch.Size, device: torch.device, seed: int) -> Tensor:
    """Standard normal and the same each time, in the memory format that training uses."""
    made = torch.randn(size, device=device, generator=torch.Generator(device).manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last_3d) if made.ndim == 5 else made
