"""How many threads the numeric libraries use."""

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
