"""What the numeric libraries do with the processor: threads, and arithmetic in bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk
import torch


def use_threads(count: int) -> None:
    """Let every library that works here use ``count`` threads and no more."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    torch.set_num_threads(count)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """For many small tensors, where a second thread mostly waits for the first, and at full speed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for bf16; without them autocast is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
