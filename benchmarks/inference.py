"""How fast synthesis is here, beside plain PyTorch, and how far the fast way is from the exact one.

    python -m benchmarks.inference [--channels 8 16]
    python -m benchmarks.inference --channels --model FOLDER --cohort FOLDER [--hold-out head_13 ...]

A pass is one forward through the network on the paper's grid; its time does not depend on the weights, ours does on
the brain: the template's. Every way runs in a process of its own, as a user would run it, so that none has the
memory that another has left. The differences depend on the weights, so they are measured on a trained model's eight
flips, on subjects of a cohort.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.cohort import Cohort, Mask
from model.fast_pass import FastPass
from model.metrics import l2, psnr
from model.network import SynthesisNetwork
from model.store import Model
from model.synthesise import average_flips, synthesise
from preprocessing.grid import NETWORK_GRID, template
from preprocessing.processor import freed_pages_kept, multiplies_bf16
from preprocessing.resample import resample

LARGEST, MEAN = 1e-2, 1e-3
"""What the fast way may differ from fp32, in units of the image's range, anywhere and on average over the brain."""
OURS = "ours"
FLIPPED = (-3, -1)

Timing = tuple[float, float, float]
"""Seconds on the clock, CPU seconds, and of these in the system."""


def best_of(count: int, work: Callable[[], object]) -> Timing:
    """The shortest of ``count`` runs after a first one."""
    work()
    times = []
    for _ in range(count):
        begin, before = time.perf_counter(), os.times()
        work()
        after = os.times()
        system = after.system - before.system
        times.append((time.perf_counter() - begin, after.user - before.user + system, system))
    return min(times)


def template_brain() -> Mask:
    """The brain of the template on the network's grid."""
    return np.asarray(resample(template(), like=NETWORK_GRID).array > 0)


def fast(network: SynthesisNetwork, volume: Tensor) -> Callable[[], object]:
    """Our pass, as ``model.synthesise`` makes it on this processor."""
    dtype = torch.bfloat16 if multiplies_bf16(volume.device) else torch.float32
    one_pass = FastPass(network, volume, template_brain(), dtype)
    return lambda: one_pass(FLIPPED)


def fast_fp32(network: SynthesisNetwork, volume: Tensor) -> Callable[[], object]:
    """Our pass on a processor without bf16 instructions."""
    one_pass = FastPass(network, volume, template_brain(), torch.float32)
    return lambda: one_pass(FLIPPED)


def eager(network: SynthesisNetwork, volume: Tensor) -> Callable[[], object]:
    """Plain PyTorch, fp32."""
    network.to(memory_format=torch.contiguous_format)
    return lambda: network(volume)


def autocast(network: SynthesisNetwork, volume: Tensor) -> Callable[[], object]:
    """Plain PyTorch with the two switches that it has for this."""
    last = volume.contiguous(memory_format=torch.channels_last_3d)

    def work() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = network(last)
        return result

    return work


WAYS: dict[str, Callable[[SynthesisNetwork, Tensor], Callable[[], object]]] = {
    "eager fp32": eager, "channels-last, bf16 autocast": autocast, "ours in fp32": fast_fp32, OURS: fast,
}  # fmt: skip


def time_way(name: str, channels: int, count: int, threads: int) -> tuple[Timing, float]:
    """The time of one pass, and the most memory that the process took, MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = SynthesisNetwork(4, channels).eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)
    volume = torch.rand(1, 4, *NETWORK_GRID.size[::-1])
    with torch.inference_mode():
        work = WAYS[name](network, volume)
        if name.startswith(OURS):
            with freed_pages_kept():
                timing = best_of(count, work)
        else:
            timing = best_of(count, work)
    return timing, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def time_flips(channels: int, threads: int) -> tuple[float, float]:
    """Seconds of all eight flips from arrays to arrays, and the most memory, MiB."""
    torch.set_num_threads(threads)
    network = SynthesisNetwork(4, channels).eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)
    inputs = np.random.default_rng(0).random((4, *NETWORK_GRID.size[::-1]), dtype=np.float32)
    brain, half = template_brain(), multiplies_bf16(torch.device("cpu"))
    begin = time.perf_counter()
    average_flips(network, inputs, half_precision=half, brain=brain)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def time_passes(channels: int, count: int, threads: int) -> None:
    """Print one row per way of running a pass, and one for the eight flips of a study."""
    first: Timing | None = None
    for name in WAYS:
        with _alone() as process:
            timing, most = process.apply(time_way, (name, channels, count, threads))
        first = first or timing
        seconds, cpu, system = timing
        print(f"C={channels:<3}{name:<30}{seconds:6.2f} s a pass {first[0] / seconds:5.1f}×; {cpu:5.2f} CPU-s (of it "
              f"{system:4.2f} in the system) {first[1] / cpu:4.1f}×; at most {most:.0f} MiB", flush=True)  # fmt: skip
    with _alone() as process:
        seconds, most = process.apply(time_flips, (channels, threads))
    print(f"C={channels:<3}eight flips of a study, ours   {seconds:6.2f} s; at most {most:.0f} MiB", flush=True)


def _alone() -> multiprocessing.pool.Pool:
    return multiprocessing.get_context("spawn").Pool(1)


def compare(model: Model, cohort: Cohort, heads: list[str]) -> None:
    """Print for each subject of ``heads`` (none: the first subject) how far the fast way's answer is from fp32's."""
    cohort = cohort.with_roles(model.roles)
    records = [record for record in cohort.subjects if record.anatomy in heads] or cohort.subjects[:1]
    agree = True
    for record in records:
        subject = cohort.read(record)
        inputs, brain, target = subject.input.astype(np.float32), np.asarray(subject.brain), np.asarray(subject.target)
        fast, exact = (synthesise(model, inputs, brain, full_precision=full).virtual for full in (False, True))
        told = [psnr(l2(virtual, target.astype(np.float32), brain)) for virtual in (fast, exact)]
        off = np.abs(fast - exact)
        agree = agree and bool(off.max() <= LARGEST and off[brain].mean() <= MEAN)
        print(f"{record.name}: PSNR in the brain {told[0]:.4f} dB, fp32 {told[1]:.4f} dB, difference "
              f"{told[0] - told[1]:+.4f} dB; largest difference {off.max():.1e}, mean {off[brain].mean():.1e}",
              flush=True)  # fmt: skip
    print(f"at most {LARGEST:g} anywhere and {MEAN:g} on average: {'ok' if agree else 'TOO FAR'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--cohort", type=Path, help="a cohort folder with the model's roles")
    parser.add_argument("--hold-out", nargs="*", default=[], help="anatomies that the model has not seen")
    arguments = parser.parse_args()
    bf16 = multiplies_bf16(torch.device("cpu"))
    print(f"torch {torch.__version__}, {arguments.threads} threads, bf16 instructions: {'yes' if bf16 else 'no'}")
    for channels in arguments.channels:
        time_passes(channels, arguments.count, arguments.threads)
    if arguments.model and arguments.cohort:
        compare(Model.load(arguments.model, "cpu"), Cohort.open(arguments.cohort), arguments.hold_out)


if __name__ == "__main__":
    main()
