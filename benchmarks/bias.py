"""Bias field correction beside what a user would run instead, against the coil field that the simulator put in.

    python -m benchmarks.bias [--anatomy FOLDER] [--subjects 10] [--slow]
    python -m benchmarks.bias --subjects 0 --real FOLDER --picture FILE.png

Subjects lie on the network's grid with the coil field of an acquisition (ScanEffects). Errors are of the logarithm of
the field inside the brain, its mean left out. --slow runs SimpleITK's defaults and ANTs' N4 once, on the first T1.
``--real`` is a folder with t1.nii.gz and t1_hdbet_mask.nii.gz.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from preprocessing import bias
from preprocessing.grid import NETWORK_GRID
from preprocessing.nifti import read_nifti
from preprocessing.reference import bias as reference
from preprocessing.volume import FloatArray, Volume, to_sitk
from simulator.acquisition import ScanEffects, true_signal
from simulator.grid import affine_transform, resample
from simulator.network import NETWORK_GRID as SIMULATED_GRID
from simulator.network import around_brain, draw_scanner, network_grid
from simulator.protocol import examination
from simulator.randomness import smooth_field, stream
from simulator.registration import mni_to_head
from simulator.subject import simulate_subject

Mask = NDArray[np.bool_]
Correct = Callable[[Volume, Mask], Volume]
COIL_MM = 90.0  # how large the structures of the simulator's coil field are


@dataclass(frozen=True)
class Case:
    """One subject's series on the network grid, and the logarithm of the coil field that they all went through."""

    name: str
    series: dict[str, FloatArray]
    brain: Mask
    lesion: Mask
    log_field: FloatArray


def simulated(seed: int, anatomy: Path | None) -> Case:
    """A subject acquired with the bias of a scanner, aligned to the network grid as well as registration does."""
    effects, scanner = ScanEffects(), draw_scanner(seed)
    subject = simulate_subject(seed, anatomy)
    found = network_grid(subject, scanner, effects)
    near = around_brain(subject)
    plan = examination(scanner, stream(seed, "examination"))[0]
    clean = np.abs(true_signal(near, near.parameters(scanner.field_tesla), scanner, plan))
    to_head = mni_to_head(np.where(near.brain, np.minimum(clean, np.percentile(clean[near.brain], 99.5)), 0), near.grid)
    coil = effects.bias * smooth_field(stream(seed, "coil"), near.grid, COIL_MM)
    return Case(
        f"{seed} {found.head} {found.condition}",
        {"T1": found.t1, "FLAIR": found.flair, "low dose": found.low_dose},
        found.brain, found.lesion,
        resample(coil, near.grid, SIMULATED_GRID, affine_transform(to_head)),
    )  # fmt: skip


def simpleitk_defaults(volume: Volume, brain: Mask) -> Volume:
    """What the class does untouched: every voxel, no mask."""
    image = sitk.N4BiasFieldCorrection(to_sitk(volume))
    return volume.with_array(sitk.GetArrayFromImage(image))


def ants_defaults(volume: Volume, brain: Mask) -> Volume:
    """antspyx with its defaults: shrink factor 4, splines 200 mm wide, 4 × 50 iterations; with the brain mask."""
    import ants

    image, mask = (ants.from_numpy(array.T.astype(np.float32)) for array in (volume.array, brain))
    return volume.with_array(ants.n4_bias_field_correction(image, mask=mask).numpy().T)


def measured(correct: Correct, case: Case, kind: str) -> tuple[float, float]:
    """The rms error of the log field inside the brain, and CPU seconds."""
    volume = Volume(case.series[kind], NETWORK_GRID)
    begin = _cpu_seconds()
    corrected = correct(volume, case.brain).array
    seconds = _cpu_seconds() - begin
    inside = case.brain & (volume.array > 0) & (corrected > 0)
    error = np.log(volume.array[inside] / corrected[inside]) - case.log_field[inside]
    return float(error.std()), seconds


def enhancement(array: FloatArray, case: Case, white: Mask) -> float:
    """Mean of the enhancing lesion over mean of the white matter, less one."""
    return float(array[case.lesion].mean() / array[white].mean() - 1)


def compare(cases: list[Case]) -> None:
    """Print the errors and times of both ways, per series and over all, and what becomes of the lesions."""
    ways: dict[str, Correct] = {"ours": bias.correct_bias, "SimpleITK shrink 4, mask": reference.correct_bias}
    total = dict.fromkeys(ways, 0.0)
    for kind in cases[0].series:
        before = np.mean([case.log_field[case.brain].std() for case in cases])
        print(f"{kind}: rms of the log field {before:.4f}", flush=True)
        for name, correct in ways.items():
            errors, seconds = zip(*(measured(correct, case, kind) for case in cases), strict=True)
            total[name] += sum(seconds)
            print(
                f"  {name:<26} error {np.mean(errors):.4f} (worst {max(errors):.4f})  {np.mean(seconds):.2f} CPU-s",
                flush=True,
            )
    ours, theirs = total.values()
    print(f"{theirs / ours:.0f} times less CPU time than SimpleITK with shrink 4 and mask")
    for case in cases:
        if case.lesion.any():
            _lesion(case)


def _lesion(case: Case) -> None:
    low = case.series["low dose"]
    flat = np.exp(case.log_field)
    white = case.brain & ~case.lesion & (np.abs(case.series["T1"] / flat - 1) < 0.05)
    corrected = bias.correct_bias(Volume(low, NETWORK_GRID), case.brain).array
    before, after, true = (enhancement(array, case, white) for array in (low, corrected, low / flat))
    print(f"lesion over white matter, {case.name}: {before:+.3f} before, {after:+.3f} after, {true:+.3f} with no coil")


def compare_slow(case: Case) -> None:
    """SimpleITK's and ANTs' defaults on one T1, with ours beside them."""
    ways: dict[str, Correct] = {"ours": bias.correct_bias, "SimpleITK defaults": simpleitk_defaults}
    if find_spec("ants"):
        ways["ANTs defaults, mask"] = ants_defaults
    else:
        print("ANTs is left out: pip install antspyx")
    ours = 0.0
    for name, correct in ways.items():
        error, seconds = measured(correct, case, "T1")
        ours = ours or seconds
        print(f"{name:<26} error {error:.4f}  {seconds:.2f} CPU-s  {seconds / ours:.0f}×", flush=True)


def compare_real(folder: Path, picture: Path | None) -> None:
    """Our field beside SimpleITK's on a real T1, and the image before and after."""
    t1, brain = read_nifti(folder / "t1.nii.gz"), read_nifti(folder / "t1_hdbet_mask.nii.gz").array > 0.5
    images = [t1.array, bias.correct_bias(t1, brain).array, reference.correct_bias(t1, brain).array]
    inside = brain & (t1.array > 0)
    ours, theirs = (np.log(t1.array[inside] / image[inside]) for image in images[1:])
    print(
        f"{folder.name}: our log field rms {ours.std():.4f}, SimpleITK's {theirs.std():.4f}, "
        f"difference {(ours - theirs).std():.4f}, correlation {np.corrcoef(ours, theirs)[0, 1]:.3f}"
    )
    if picture:
        draw(picture, images, brain)


def draw(path: Path, images: list[FloatArray], brain: Mask) -> None:
    """Three slices of the image before, after ours, after SimpleITK's, and our field."""
    top = float(np.percentile(images[0][brain], 99.5))
    found = np.flatnonzero(brain.any(axis=(1, 2)))
    rows = [int(np.quantile(found, share)) for share in (0.3, 0.5, 0.7)]
    figure, axes = plt.subplots(len(rows), 4, figsize=(12, 9.5), layout="constrained")
    field = np.divide(images[0], images[1], out=np.ones_like(images[0]), where=images[1] > 0)
    for row, k in enumerate(rows):
        for column, (image, name) in enumerate(zip(images, ("T1", "ours", "SimpleITK"), strict=True)):
            axes[row, column].imshow(image[k], cmap="gray", vmin=0, vmax=top)
            axes[row, column].set_title(name)
        shown = axes[row, 3].imshow(np.where(brain[k], field[k], np.nan), cmap="RdBu_r", vmin=0.8, vmax=1.25)
        axes[row, 3].set_title("our field")
    figure.colorbar(shown, ax=axes[:, 3], shrink=0.5)
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="a folder of head_*.nii.gz; the ICBM phantom without it")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(arguments.threads)
    cases = [simulated(seed, arguments.anatomy) for seed in range(1, arguments.subjects + 1)]
    if cases:
        compare(cases)
    if cases and arguments.slow:
        compare_slow(cases[0])
    if arguments.real:
        compare_real(arguments.real, arguments.picture)


if __name__ == "__main__":
    main()
