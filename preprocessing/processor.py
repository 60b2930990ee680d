"""What the numeric libraries do with the processor and its memory: threads, arithmetic in bf16, freed pages."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk
import torch

# The numbers of glibc's <malloc.h>, mallopt(3), and what glibc comes to by itself once large arrays have been freed.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_OWN_MAPPING_BYTES, _TRIM_BYTES, _MAPPINGS = 32 << 20, 64 << 20, 65536


@contextmanager
def freed_pages_kept() -> Iterator[None]:
    """Inside, memory that was freed stays with this process for the next array; at the end the system gets it back.

    Else every large array comes on fresh pages that the system has to clear first: a third of the time that plain
    PyTorch takes for a pass of the network (``docs/inference.md``). It is not for work with arrays of many sizes, whose
    gaps cost more memory than the pages cost time. Only glibc can be told; elsewhere this does nothing.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)  # no mapping of its own for a large array
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # and no shrinking of the heap that they all are on now
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, _MAPPINGS)
        libc.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        libc.malloc_trim(0)


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
