"""How fast synthesis is here, beside plain PyTorch, and how far the fast way is from the exact one.

    python -m benchmarks.inference [--channels 8 16]
    python -m benchmarks.inference --channels --model FOLDER --cohort FOLDER

A pass is one forward through the network on the paper's grid; its time does not depend on the weights. The differences
do, so they are measured on a trained model's eight flips, on the first subject of a cohort.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.cohort import Cohort
from model.metrics import l2, psnr
from model.network import SynthesisNetwork
from model.store import Model
from model.synthesise import synthesise
from preprocessing.processor import multiplies_bf16

GRID = (160, 192, 160)
LARGEST, MEAN = 1e-2, 1e-3
"""What the fast way may differ from fp32, in units of the image's range, anywhere and on average over the brain."""


def best_of(count: int, work: Callable[[], Tensor]) -> float:
    """The shortest time in seconds of ``count`` runs after a first one."""
    work()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def time_passes(channels: int, count: int) -> None:
    """Print one row per way of running a pass."""
    network = SynthesisNetwork(4, channels).eval()
    volume = torch.rand(1, 4, *GRID)
    last = volume.contiguous(memory_format=torch.channels_last_3d)

    def autocast() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = network(last)
        return result

    with torch.inference_mode():
        eager = best_of(count, lambda: network(volume))
        print(f"C={channels:<3} eager fp32                 {eager:6.2f} s a pass", flush=True)
        network.to(memory_format=torch.channels_last_3d)
        for name, work in (("channels-last fp32", lambda: network(last)), ("channels-last bf16 autocast", autocast)):
            seconds = best_of(count, work)
            print(f"C={channels:<3} {name:<27}{seconds:6.2f} s a pass  {eager / seconds:4.1f}×", flush=True)


def compare(model: Model, cohort: Cohort) -> None:
    """Print the time of eight flips both ways and how far apart the answers are."""
    subject = cohort.with_roles(model.roles).read(cohort.subjects[0])
    inputs, brain = subject.input.astype(np.float32), np.asarray(subject.brain)
    answers = []
    for full_precision in (False, True):
        begin = time.perf_counter()
        answers.append(synthesise(model, inputs, brain, full_precision=full_precision).virtual)
        way = "fp32" if full_precision else "as this processor can"
        error = psnr(l2(answers[-1], subject.target.astype(np.float32), brain))
        print(f"eight flips, {way}: {time.perf_counter() - begin:.1f} s, PSNR in the brain {error:.3f} dB", flush=True)
    off = np.abs(answers[0] - answers[1])
    agrees = off.max() <= LARGEST and off[brain].mean() <= MEAN
    print(f"largest difference {off.max():.1e}, mean {off[brain].mean():.1e}: {'ok' if agrees else 'TOO FAR'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--cohort", type=Path, help="a cohort folder with the model's roles")
    parser.add_argument("--count", type=int, default=3)
    arguments = parser.parse_args()
    bf16 = multiplies_bf16(torch.device("cpu"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, bf16 instructions: {'yes' if bf16 else 'no'}")
    for channels in arguments.channels:
        time_passes(channels, arguments.count)
    if arguments.model and arguments.cohort:
        compare(Model.load(arguments.model, "cpu"), Cohort.open(arguments.cohort))


if __name__ == "__main__":
    main()
