"""Several processes at one piece of work, as ``torchrun`` starts them: which one this is, and its share of the machine.

Trainings are spread over processes (``model.crossvalidate``); where there is only one, its batches are split here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from preprocessing.processor import use_threads


@dataclass(frozen=True)
class Process:
    """The ``rank``-th of ``count`` processes, counted from 0; by default the only one."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that speaks, draws and writes tables."""
        return self.rank == 0


ALONE = Process()


def started() -> Process:
    """This process as ``torchrun`` numbered it, on its share of the machine: the GPU of its local rank where there is
    one (several processes share it where there are fewer), and as many of the processor's cores as every other."""
    if not distributed.is_torchelastic_launched():
        return ALONE
    local_rank, beside = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    use_threads(max(1, len(os.sched_getaffinity(0)) // beside))
    return Process(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def beside_on_gpu() -> int:
    """How many processes of this machine, this one included, ``started`` put on this one's GPU."""
    if not distributed.is_torchelastic_launched():
        return 1
    gpus = torch.cuda.device_count()
    return len(range(int(os.environ["LOCAL_RANK"]) % gpus, int(os.environ["LOCAL_WORLD_SIZE"]), gpus))


@contextmanager
def joined(process: Process) -> Iterator[None]:
    """Inside, the processes can add up what each has: for one training whose batches are split. Raises ValueError for
    processes that share a GPU."""
    if process.count == 1:
        yield
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus and beside_on_gpu() > 1:
        raise ValueError(
            "NCCL adds up nothing between processes on one GPU: start one process for each of this machine's "
            f"{torch.cuda.device_count()}"
        )
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def said_by_all(number: int, process: Process) -> tuple[int, ...]:
    """What each process of those that are ``joined`` says, by rank."""
    if process.count == 1:
        return (number,)
    said = torch.zeros(process.count, dtype=torch.int64, device="cuda" if torch.cuda.is_available() else "cpu")
    said[process.rank] = number
    add_up([said])
    return tuple(said.tolist())


def add_up(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes its sum over the processes that are ``joined``, to the bit the same in all of them."""
    total = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(total)
    for tensor, summed in zip(tensors, torch.split(total, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))
